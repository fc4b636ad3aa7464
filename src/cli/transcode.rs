//! `iguazu transcode`: payloads from one form into another, a line each.
//!
//! In: lines on stdin (hexadecimal for binary forms, JSON as it is), a message or an Avro schema. Out: as many lines in the
//! same order: what each became, or what is wrong with it. Never: more than one line in memory, a connection to anything.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use prost_reflect::MessageDescriptor;

use super::{Failure, with_causes};
use crate::envelope::Payload;
use crate::outcome::{Code, EventError};
use crate::route::{
    Encoding, JavaAvro, JavaTimestamp, JavaUnknownEnum, Mapping, NestedSep, Presence, TimestampPolicy, Uint64Policy,
    UnknownEnumPolicy, UnknownFields,
};
use crate::schema::protos::ProtoFiles;
use crate::transcode::back::{AvroReader, AvroSchema};
use crate::transcode::{self, Output, Plan, PlanSettings, Scratch};

/// Arguments of `iguazu transcode`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads payloads from stdin, one a line, and writes one line for each, in the same order: the
payload in its new form, or `error CODE PATH: message`. Protobuf and Avro are hexadecimal, JSON is
proto3 JSON on one line. An empty line is the empty payload. Avro is bare: without Confluent's
prefix of five bytes.

From Avro, the schema is the one that the mapping derives from the message, or `--avro-schema
FILE`. With both, datums of that schema are read into the message, by field number, else by name:
so any version of the schema can be read. With `--avro-schema` alone its property `proto.number`
says what each field is.

Exit codes: 0 every line was converted, 1 at least one was not, 64 wrong usage.

Examples:
  echo '{\"id\":\"1\"}' | iguazu transcode --proto proto/ --message acme.Order --from json --to avro
  iguazu transcode --descriptors acme.fds --message acme.Order --from avro --to json < in.hex
  iguazu transcode --avro-schema order.avsc --from avro --to protobuf < in.hex
  iguazu transcode --proto proto/ --message acme.Order --print-schema > order.avsc
  iguazu transcode --proto proto/ --message acme.Order --mapping java-avro --print-schema")]
pub struct Args {
    /// Folder with .proto files, the root of their imports; repeat for more
    #[arg(long, value_name = "DIR", conflicts_with = "descriptors")]
    proto: Vec<PathBuf>,
    /// File with a FileDescriptorSet, as `protoc --include_imports -o` and `buf build -o` write
    /// it; files of editions 2023 and 2024 are read from here only
    #[arg(long, value_name = "FILE")]
    descriptors: Option<PathBuf>,
    /// Full name of the message
    #[arg(long, value_name = "NAME", required_unless_present = "avro_schema")]
    message: Option<String>,
    /// File with the Avro schema of the input
    #[arg(long, value_name = "FILE", conflicts_with = "print_schema")]
    avro_schema: Option<PathBuf>,
    /// Form of the input
    #[arg(long, value_enum, required_unless_present = "print_schema")]
    from: Option<Form>,
    /// Form of the output
    #[arg(long, value_enum, required_unless_present = "print_schema")]
    to: Option<Form>,
    #[command(flatten)]
    mapping: MappingArgs,
    /// What happens to fields that the message does not have
    #[arg(long, value_enum, default_value = "reject")]
    unknown_fields: Unknown,
    /// Print the Avro schema that the mapping derives from the message, and read nothing
    #[arg(long, conflicts_with_all = ["from", "to", "unknown_fields"])]
    print_schema: bool,
}

/// How messages become Avro. The policies have the names and the defaults of an event type's settings.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Mapping to Avro")]
struct MappingArgs {
    /// Which mapping
    #[arg(long, value_enum, default_value = "presence")]
    mapping: Which,
    /// `presence`: numbers over 2^63-1 in uint64 and fixed64
    #[arg(long, value_enum)]
    uint64: Option<Uint64>,
    /// `presence`: timestamps outside the years 0001 to 9999
    #[arg(long, value_enum)]
    invalid_timestamp: Option<InvalidTimestamp>,
    /// Enum numbers without a symbol; of `presence`, or of `java-avro`
    #[arg(long, value_enum)]
    unknown_enum: Option<UnknownEnum>,
    /// `java-avro`: what a google.protobuf.Timestamp becomes
    #[arg(long, value_enum)]
    timestamp: Option<Timestamp>,
    /// `java-avro`: what stands between the names of outer classes
    #[arg(long, value_enum)]
    nested_sep: Option<Separator>,
    /// `java-avro`: give enums their first symbol as default, as avro-protobuf does from AVRO-4133 on
    #[arg(long)]
    enum_default: bool,
    /// `java-avro`: leave out the property avro.java.string
    #[arg(long)]
    no_avro_java_string: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// What can be absent is a union with null
    Presence,
    /// What Java's avro-protobuf 1.12 writes, byte for byte
    JavaAvro,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A message on the wire, in hexadecimal
    Protobuf,
    /// Proto3 JSON
    Json,
    /// A datum, in hexadecimal
    Avro,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Unknown {
    /// The line is an error
    Reject,
    /// They are left out, and counted on stderr at the end
    Drop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Uint64 {
    /// The line is an error [default]
    Reject,
    /// Two's complement
    Wrap,
    /// Every one is a decimal(20,0)
    Decimal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UnknownEnum {
    /// `presence`: the enum's first symbol [default]
    DefaultSymbol,
    /// `presence`: the line is an error
    Reject,
    /// `presence`: every enum is a string
    String,
    /// `java-avro`: the line is an error [default]
    Throw,
    /// `java-avro`: the enum's first symbol
    Default,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum InvalidTimestamp {
    /// The line is an error [default]
    Reject,
    /// The nearest timestamp in range
    Clamp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Timestamp {
    /// A record of seconds and nanos [default]
    Record,
    /// timestamp-millis
    Millis,
    /// timestamp-micros
    Micros,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Separator {
    /// Legal in every parser [default]
    #[value(name = ".")]
    Dot,
    /// Legal in every parser
    #[value(name = "_")]
    Underscore,
    /// What Java writes, and most parsers refuse
    #[value(name = "$")]
    Dollar,
}

/// A line may be this long; JSON of the largest payload that the proxy takes is far shorter.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let message = message(&args)?;
    let mapping = args.mapping.mapping()?;
    if args.print_schema {
        let message = message.ok_or_else(|| Failure::Usage("--print-schema needs --message".to_owned()))?;
        let schema = transcode::avro_schema(&message, &mapping).map_err(usage)?;
        writeln!(io::stdout().lock(), "{schema}")?;
        return Ok(());
    }
    let mut transcoder = Transcoder::new(&args, message.as_ref(), mapping)?;
    let mut output = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let lines = convert(&mut io::stdin().lock(), &mut output, &mut transcoder)?;
    if let Some(first) = lines.first_dropped {
        eprintln!("iguazu: {} fields were left out; first: {first}", lines.fields_dropped);
    }
    if lines.failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

fn message(args: &Args) -> Result<Option<MessageDescriptor>, Failure> {
    let pool = match &args.descriptors {
        Some(path) => {
            let bytes = fs::read(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            let pool = transcode::read_descriptor_set(&bytes);
            pool.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?
        }
        None if args.proto.is_empty() => {
            return match &args.message {
                None => Ok(None),
                Some(_) => Err(Failure::Usage("--message needs --proto or --descriptors".to_owned())),
            };
        }
        None => ProtoFiles::under(&args.proto).and_then(|files| files.compile()).map_err(usage)?,
    };
    let Some(name) = &args.message else {
        return Err(Failure::Usage("--proto and --descriptors need --message".to_owned()));
    };
    match pool.get_message_by_name(name) {
        Some(message) => Ok(Some(message)),
        None => {
            let messages: Vec<_> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
            let near = crate::config::nearest(name, messages.iter().map(String::as_str));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            Err(Failure::Usage(format!("no file has the message `{name}`{hint}")))
        }
    }
}

impl MappingArgs {
    fn mapping(self) -> Result<Mapping, Failure> {
        let of = |other: &[(&str, bool)], mapping: &str| match other.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(Failure::Usage(format!("{flag} is not a parameter of the mapping `{mapping}`"))),
        };
        let unknown =
            |mapping: &str| Failure::Usage(format!("--unknown-enum has a value that `{mapping}` does not have"));
        match self.mapping {
            Which::Presence => {
                let java = [
                    ("--timestamp", self.timestamp.is_some()),
                    ("--nested-sep", self.nested_sep.is_some()),
                    ("--enum-default", self.enum_default),
                    ("--no-avro-java-string", self.no_avro_java_string),
                ];
                of(&java, "presence")?;
                Ok(Mapping::Presence(Presence {
                    uint64: match self.uint64 {
                        None | Some(Uint64::Reject) => Uint64Policy::Reject,
                        Some(Uint64::Wrap) => Uint64Policy::Wrap,
                        Some(Uint64::Decimal) => Uint64Policy::Decimal,
                    },
                    unknown_enum: match self.unknown_enum {
                        None | Some(UnknownEnum::DefaultSymbol) => UnknownEnumPolicy::DefaultSymbol,
                        Some(UnknownEnum::Reject) => UnknownEnumPolicy::Reject,
                        Some(UnknownEnum::String) => UnknownEnumPolicy::String,
                        Some(UnknownEnum::Throw | UnknownEnum::Default) => return Err(unknown("presence")),
                    },
                    invalid_timestamp: match self.invalid_timestamp {
                        None | Some(InvalidTimestamp::Reject) => TimestampPolicy::Reject,
                        Some(InvalidTimestamp::Clamp) => TimestampPolicy::Clamp,
                    },
                }))
            }
            Which::JavaAvro => {
                let presence =
                    [("--uint64", self.uint64.is_some()), ("--invalid-timestamp", self.invalid_timestamp.is_some())];
                of(&presence, "java-avro")?;
                Ok(Mapping::JavaAvro(JavaAvro {
                    enum_default: self.enum_default,
                    nested_sep: match self.nested_sep {
                        None | Some(Separator::Dot) => NestedSep::Dot,
                        Some(Separator::Underscore) => NestedSep::Underscore,
                        Some(Separator::Dollar) => NestedSep::Dollar,
                    },
                    timestamp: match self.timestamp {
                        None | Some(Timestamp::Record) => JavaTimestamp::Record,
                        Some(Timestamp::Millis) => JavaTimestamp::Millis,
                        Some(Timestamp::Micros) => JavaTimestamp::Micros,
                    },
                    avro_java_string: !self.no_avro_java_string,
                    unknown_enum: match self.unknown_enum {
                        None | Some(UnknownEnum::Throw) => JavaUnknownEnum::Throw,
                        Some(UnknownEnum::Default) => JavaUnknownEnum::Default,
                        Some(_) => return Err(unknown("java-avro")),
                    },
                }))
            }
        }
    }
}

/// Turns one payload into another form.
struct Transcoder {
    way: Way,
    from: Form,
    to: Form,
    scratch: Scratch,
    output: Output,
    binary: Vec<u8>,
}

enum Way {
    There(Plan),
    Back(AvroReader),
}

impl Transcoder {
    fn new(args: &Args, message: Option<&MessageDescriptor>, mapping: Mapping) -> Result<Transcoder, Failure> {
        let (Some(from), Some(to)) = (args.from, args.to) else {
            return Err(Failure::Usage("--from and --to say what to do".to_owned()));
        };
        let encoding = match to {
            Form::Protobuf => Encoding::Protobuf,
            Form::Json => Encoding::Json,
            Form::Avro => Encoding::Avro,
        };
        let unknown_fields = match args.unknown_fields {
            Unknown::Reject => UnknownFields::Reject,
            Unknown::Drop => UnknownFields::Drop,
        };
        let settings = PlanSettings { encoding, mapping, key: None, unknown_fields };
        let way = match (from, message) {
            (Form::Avro, message) => {
                let text = match (&args.avro_schema, message) {
                    (Some(path), _) => fs::read_to_string(path)
                        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?,
                    (None, Some(message)) => transcode::avro_schema(message, &mapping).map_err(usage)?,
                    (None, None) => return Err(Failure::Usage("--from avro needs a message or a schema".to_owned())),
                };
                let schema = AvroSchema::parse(&text, &[]).map_err(usage)?;
                Way::Back(AvroReader::compile_with(schema, message, &settings).map_err(usage)?)
            }
            (_, Some(_)) if args.avro_schema.is_some() => {
                return Err(Failure::Usage("--avro-schema is of the input; it needs --from avro".to_owned()));
            }
            (_, Some(message)) => Way::There(Plan::compile(message, &settings).map_err(usage)?),
            (_, None) => return Err(Failure::Usage("--from protobuf and --from json need --message".to_owned())),
        };
        let (scratch, output, binary) = (Scratch::default(), Output::default(), Vec::new());
        Ok(Transcoder { way, from, to, scratch, output, binary })
    }

    /// What a line becomes is in `self.output`.
    fn convert(&mut self, line: &[u8]) -> Result<(), EventError> {
        self.output.clear();
        let payload = match self.from {
            Form::Json => line,
            Form::Protobuf | Form::Avro => {
                from_hex(line, &mut self.binary)?;
                &self.binary
            }
        };
        match (&self.way, self.from) {
            (Way::Back(reader), _) => reader.transcode(payload, &mut self.scratch, &mut self.output),
            (Way::There(plan), Form::Json) => {
                plan.transcode(Payload::Json(payload), &mut self.scratch, &mut self.output)
            }
            (Way::There(plan), _) => plan.transcode(Payload::Protobuf(payload), &mut self.scratch, &mut self.output),
        }
    }
}

/// What became of all lines.
#[derive(Debug, Default)]
struct Lines {
    failed: u64,
    fields_dropped: u64,
    first_dropped: Option<String>,
}

/// Converts every line. Output is flushed whenever the input has nothing more for now, so that a person sees each answer.
fn convert(input: &mut dyn BufRead, output: &mut dyn Write, transcoder: &mut Transcoder) -> Result<Lines, io::Error> {
    let (mut line, mut hex, mut lines) = (Vec::new(), Vec::new(), Lines::default());
    loop {
        let converted = match next_line(input, &mut line, output)? {
            Line::End => break,
            Line::Whole => transcoder.convert(&line),
            Line::TooLong => {
                Err(EventError::new(Code::EventTooLarge, format!("$: the line is over {LINE_BYTES_MAX} bytes")))
            }
        };
        match converted {
            Ok(()) if transcoder.to == Form::Json => output.write_all(&transcoder.output.value)?,
            Ok(()) => {
                to_hex(&transcoder.output.value, &mut hex);
                output.write_all(&hex)?;
            }
            Err(error) => {
                lines.failed += 1;
                write!(output, "error {} {}", error.code.as_str(), error.message)?;
            }
        }
        output.write_all(b"\n")?;
        let Output { fields_dropped, first_dropped, .. } = &transcoder.output;
        if *fields_dropped > 0 {
            lines.fields_dropped += u64::from(*fields_dropped);
            lines.first_dropped.get_or_insert_with(|| first_dropped.clone());
        }
    }
    output.flush()?;
    Ok(lines)
}

enum Line {
    End,
    Whole,
    TooLong,
}

/// Reads up to the next line end, which is not part of the line; a carriage return before it is not either.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>, output: &mut dyn Write) -> io::Result<Line> {
    line.clear();
    let (mut too_long, mut read_any) = (false, false);
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        read_any = true;
        let end = memchr::memchr(b'\n', chunk);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        too_long |= line.len() + part.len() > LINE_BYTES_MAX;
        if !too_long {
            line.extend_from_slice(part);
        }
        let taken = part.len() + usize::from(end.is_some());
        let is_last = taken == chunk.len();
        input.consume(taken);
        if is_last {
            output.flush()?;
        }
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(match (read_any, too_long) {
        (false, _) => Line::End,
        (true, false) => Line::Whole,
        (true, true) => Line::TooLong,
    })
}

fn from_hex(text: &[u8], bytes: &mut Vec<u8>) -> Result<(), EventError> {
    let text = text.trim_ascii();
    let wrong = |what: String| EventError::new(Code::InvalidPayload, format!("$: the line is not hexadecimal: {what}"));
    bytes.clear();
    if text.len() % 2 == 1 {
        return Err(wrong(format!("it has {} digits, an odd number", text.len())));
    }
    let digit = |at: usize| {
        let digit = char::from(text[at]).to_digit(16);
        digit.ok_or_else(|| wrong(format!("character {} is no digit", at + 1)))
    };
    for at in (0..text.len()).step_by(2) {
        bytes.push((digit(at)? << 4 | digit(at + 1)?) as u8);
    }
    Ok(())
}

fn to_hex(bytes: &[u8], text: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.clear();
    text.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

fn usage(error: impl std::error::Error) -> Failure {
    Failure::Usage(with_causes(&error))
}
