"""Reads topics back as somebody else would: with Confluent's consumer and deserialisers, none of our code.

In: topics, how many records to expect, a deadline. Out: one JSON object a line and record, in the order of partition
and offset. Never: a consumer group, a committed offset, a topic created by asking for it.

The records are those up to the moment when `--count` of them were read, and then up to each partition's end, so that
a record too many shows. Exit 0 also when fewer came: the caller judges.
"""

import argparse
import base64
import datetime
import decimal
import functools
import io
import json
import sys
import tempfile
import time
import uuid
from pathlib import Path

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_CREATE_TIME, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.common.serde import SchemaId
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool


def main():
    args = arguments()
    decoder = Decoder(args.registry)
    # A user of a service may look for the coordinator of its own groups only.
    consumer = Consumer({"group.id": "read-back", **settings(args), "enable.auto.commit": False})
    records = [describe(message, decoder) for message in read(consumer, args)]
    consumer.close()
    for record in sorted(records, key=lambda r: (r["topic"], r["partition"], r["offset"])):
        print(json.dumps(record, default=as_json))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True, help="host:port,…")
    parser.add_argument("--topic", required=True, action="append", help="may be given more than once")
    parser.add_argument("--count", type=int, required=True, help="records to wait for, over all topics")
    parser.add_argument("--seconds", type=float, default=60, help="how long to wait for them")
    parser.add_argument("--registry", help="base URL of the schema registry; without one values are not decoded")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a librdkafka setting")
    return parser.parse_args()


def settings(args):
    return {"bootstrap.servers": args.brokers, **dict(pair.split("=", 1) for pair in args.set)}


def read(consumer, args):
    """The messages of every partition, from its beginning until `count` were read and its end is reached."""
    deadline = time.monotonic() + args.seconds
    partitions = [(topic, number) for topic in args.topic for number in partitions_of(consumer, topic, deadline)]
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in partitions])
    messages, next_offsets = [], {partition: 0 for partition in partitions}
    while len(messages) < args.count and time.monotonic() < deadline:
        take(consumer, messages, next_offsets)
    for partition, end in ends_of(partitions, args).items():
        while next_offsets[partition] < end and time.monotonic() < deadline:
            take(consumer, messages, next_offsets)
    return messages


def ends_of(partitions, args):
    """The end of each partition, asked for at once: the consumer would ask one by one, each time behind a fetch of half a
    second that waits for more."""
    latest = {TopicPartition(*partition): OffsetSpec.latest() for partition in partitions}
    # It must outlive its answers.
    client = AdminClient({**settings(args), "log_level": 3})
    ends = client.list_offsets(latest, request_timeout=30)
    return {(end.topic, end.partition): future.result().offset for end, future in ends.items()}


def partitions_of(consumer, topic, deadline):
    """A topic's partitions; waits for a topic that was made a moment ago."""
    while True:
        metadata = consumer.list_topics(topic, timeout=30).topics[topic]
        if metadata.partitions and metadata.error is None:
            return sorted(metadata.partitions)
        if time.monotonic() > deadline:
            sys.exit(f"topic {topic}: {metadata.error}")
        time.sleep(0.1)


def take(consumer, messages, next_offsets):
    for message in consumer.consume(num_messages=500, timeout=0.2):
        if message.error() is None:
            messages.append(message)
            next_offsets[message.topic(), message.partition()] = message.offset() + 1
        elif not message.error().retriable():
            sys.exit(f"consumer: {message.error()}")


def describe(message, decoder):
    headers = [(name, value) for name, value in message.headers() or []]
    kind, millis = message.timestamp()
    schema, value = decoder.decode(message.topic(), headers, message.value())
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp_ms": millis if kind == TIMESTAMP_CREATE_TIME else None,
        "key_hex": None if message.key() is None else message.key().hex(),
        "headers": [[name, header_text(value)] for name, value in headers],
        "cloud_event": cloud_event(headers, message.value()),
        "envelope": envelope(headers),
        "schema": schema,
        "value_hex": None if message.value() is None else message.value().hex(),
        "value": value,
    }


def header_text(value):
    """UTF-8 as it is; what is not UTF-8 as `hex:…`."""
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return "hex:" + value.hex()


def cloud_event(headers, value):
    """The attributes as the CloudEvents SDK reads them; None when the headers are none of a CloudEvent."""
    attributes = {name: v for name, v in headers if name.startswith("ce_") or name == "content-type"}
    if "ce_specversion" not in attributes:
        return None
    # The value is checked elsewhere; the SDK would try to read it by its content type.
    attributes.pop("content-type", None)
    event = from_binary(KafkaMessage(headers=attributes, key=None, value=value or b""), JSONFormat())
    return event.get_attributes()


def envelope(headers):
    """The header `iguazu-envelope`, by the .proto file that consumers get; None when there is none."""
    header = dict(headers).get("iguazu-envelope")
    if header is None:
        return None
    return json_format.MessageToDict(envelope_class().FromString(header), preserving_proto_field_name=True)


@functools.cache
def envelope_class():
    root = Path(__file__).parents[2] / "proto"
    pool = compiled([root], root / "iguazu/v1/events.proto")
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("iguazu.v1.Envelope"))


class Decoder:
    """Decodes values by the schema that their framing names."""

    def __init__(self, registry):
        self.client = SchemaRegistryClient({"url": registry, "timeout": 20}) if registry else None
        self.avro = AvroDeserializer(self.client, conf={"subject.name.strategy.type": "TOPIC"}) if registry else None
        self.classes = {}

    def decode(self, topic, headers, value):
        """({id, type}, decoded); without a framing (None, JSON) if it is JSON, else (None, None)."""
        content_type = dict(headers).get("content-type", b"").decode()
        framed = value and value[0] == 0 or "__value_schema_id" in dict(headers)
        if value is None or not framed:
            return None, json_or_none(value)
        if self.client is None:
            return None, None
        context = SerializationContext(topic, MessageField.VALUE, headers)
        schema_id, bare = self.framing(headers, value)
        schema = self.schema(schema_id)
        named = {"id": schema_id.id, "guid": schema_id.guid and str(schema_id.guid), "type": schema.schema_type}
        if schema.schema_type == "PROTOBUF":
            schema_id, bare = self.framing(headers, value, "PROTOBUF")
            message_class = self.message_class(schema, schema_id.message_indexes)
            named["message"] = message_class.DESCRIPTOR.full_name
            message = ProtobufDeserializer(message_class)(value, context)
            return named, json_format.MessageToDict(message, preserving_proto_field_name=True)
        if schema.schema_type == "JSON":
            return named, json.loads(bare)
        if len(value) == 5:
            return named, {}  # A record without fields: Confluent's deserialiser refuses it as too short.
        return named, self.avro(value, context)

    @staticmethod
    def framing(headers, value, schema_type="AVRO"):
        schema_id = SchemaId(schema_type)
        header = dict(headers).get("__value_schema_id")
        if header is not None:
            schema_id.from_bytes(io.BytesIO(header))
            return schema_id, value
        return schema_id, schema_id.from_bytes(io.BytesIO(value)).read()

    def schema(self, schema_id):
        if schema_id.guid is not None:
            return self.client.get_schema_by_guid(str(schema_id.guid))
        return self.client.get_schema(schema_id.id)

    def message_class(self, schema, indexes):
        key = (schema.schema_str, tuple(indexes))
        if key not in self.classes:
            self.classes[key] = compile_message(self.client, schema, indexes)
        return self.classes[key]


def compile_message(client, schema, indexes):
    """The class of the message that `indexes` name in a registered Protobuf text, compiled by Google's protoc."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_with_references(client, schema, "main_schema.proto", root)
        files = descriptors([root], root / "main_schema.proto")
    pool = pool_of(files)
    descriptor = files.file[-1].message_type[indexes[0]]
    names = [descriptor.name]
    for index in indexes[1:]:
        descriptor = descriptor.nested_type[index]
        names.append(descriptor.name)
    full_name = ".".join(filter(None, [files.file[-1].package, *names]))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


def compiled(roots, path):
    return pool_of(descriptors(roots, path))


def descriptors(roots, path):
    """A file and what it imports, compiled by Google's protoc."""
    import grpc_tools
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.bin"
        roots = [*roots, Path(grpc_tools.__file__).parent / "_proto"]
        flags = [*(f"-I{root}" for root in roots), "--include_imports", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", *flags, str(path)]) != 0:
            sys.exit(f"protoc refuses {path.name}")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def pool_of(files):
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def write_with_references(client, schema, name, root):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema.schema_str)
    for reference in schema.references or []:
        registered = client.get_version(reference.subject, reference.version)
        write_with_references(client, registered.schema, reference.name, root)


def json_or_none(value):
    try:
        return json.loads(value) if value else None
    except ValueError:
        return None


def as_json(value):
    """What `json` does not know, as proto3 JSON would write it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    raise TypeError(f"{type(value)} has no JSON form")


if __name__ == "__main__":
    main()
