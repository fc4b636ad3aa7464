// Asks a schema registry, by Confluent's client for JavaScript, what tests/python/registry_client.py asks by that for Python,
// as far as this client can ask it; prints the answers in the same form.
//
//     registry_client.js URL PREFIX

const { AvroDeserializer, AvroSerializer, Compatibility, SchemaRegistryClient, SerdeType } = require("@confluentinc/schemaregistry");

const record = (...fields) => JSON.stringify({ type: "record", name: "R", namespace: "t", fields });
const [x, y, z] = [{ name: "x", type: "int" }, { name: "y", type: "int" }, { name: "z", type: "int" }];
const ONE = record(x);
const TWO = record(x, { ...y, default: 0 });
const BAD = record(x, y);
const proto = (field) => `syntax = "proto3";\npackage t.v1;\n\nmessage A {\n  ${field}\n}\n`;
const importing = (more) =>
  `syntax = "proto3";\npackage u.v1;\n\nimport "t/v1/a.proto";\n\nmessage U {\n  t.v1.A a = 1;\n${more}}\n`;

async function main(url, prefix) {
  const client = SchemaRegistryClient.newClient({ baseURLs: [url], maxRetries: 0 });
  const ids = new Map();
  const id = (value) => {
    if (!ids.has(value)) ids.set(value, `id ${ids.size + 1}`);
    return ids.get(value);
  };
  const short = (subject) => subject.replace(prefix, "");
  const schema = (of) => ({
    type: of.schemaType || "AVRO",
    text: (of.schemaType || "AVRO") === "AVRO" ? JSON.parse(of.schema) : of.schema,
    references: (of.references || []).map((r) => [r.name, short(r.subject), r.version]),
  });
  const version = (of) => ({ subject: short(of.subject), version: of.version, id: id(of.id), schema: schema(of) });
  const step = async (name, ask) => {
    let answer;
    try {
      client.clearCaches();
      answer = await ask();
    } catch (error) {
      answer = error.errorCode === undefined ? { failed: String(error) } : { status: error.status, code: error.errorCode };
    }
    console.log(JSON.stringify({ step: name, answer }));
  };
  const s = (name) => prefix + name;
  const [a, p, u] = [s("avro"), s("proto"), s("importing")];
  const avro = (text) => ({ schema: text, schemaType: "AVRO" });
  const protobuf = (text, ...references) => ({ schema: text, schemaType: "PROTOBUF", references });
  const imported = (subject) => ({ name: "t/v1/a.proto", subject, version: 1 });
  const register = async (subject, of, normalize = false) => id(await client.register(subject, of, normalize));

  await step("versions of no subject", () => client.getAllVersions(a));
  await step("version of no subject", () => client.getSchemaMetadata(a, 1, false));
  await step("latest of no subject", () => client.getLatestSchemaMetadata(a));
  await step("look-up in no subject", () => client.getId(a, avro(ONE), false));
  await step("schema of no id", () => client.getBySubjectAndId(a, 2000000000));
  await step("schema of no GUID", () => client.getByGuid("00000000-0000-0000-0000-000000000000"));
  await step("delete no subject", () => client.deleteSubject(a, false));

  await step("register Avro", () => register(a, avro(ONE)));
  await step("register it again", () => register(a, avro(ONE)));
  await step("register it elsewhere", () => register(s("elsewhere"), avro(ONE)));
  await step("register no Avro", () => register(a, avro('{"type":"recor"}')));
  await step("register no JSON", () => register(a, avro("{")));
  await step("register what is not compatible", () => register(a, avro(BAD)));
  await step("register what is compatible", () => register(a, avro(TWO)));
  await step("register Protobuf", () => register(p, protobuf(proto("string a = 1;")), true));
  await step("register no Protobuf", () => register(p, protobuf("message {"), true));
  const spaced = 'syntax = "proto3";\n\npackage t.v1;\nmessage A { string a = 1; }';
  await step("register the same but for blanks", () => register(p, protobuf(spaced), true));
  const missing = imported(s("nobody"));
  await step("register Protobuf with a reference to nothing", () => register(u, protobuf(importing(""), missing), true));
  await step("register Protobuf with a reference", () => register(u, protobuf(importing(""), imported(p)), true));
  const json = '{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}';
  await step("register JSON Schema", () => register(s("json"), { schema: json, schemaType: "JSON" }));

  await step("versions", () => client.getAllVersions(a));
  await step("version 1", async () => version(await client.getSchemaMetadata(a, 1, false)));
  await step("latest version", async () => version(await client.getLatestSchemaMetadata(a)));
  await step("version 9", () => client.getSchemaMetadata(a, 9, false));
  await step("Protobuf with a reference", async () => version(await client.getLatestSchemaMetadata(u)));
  await step("JSON Schema", async () => version(await client.getLatestSchemaMetadata(s("json"))));
  await step("look-up of what is not there", () => client.getId(a, avro(BAD), false));
  await step("subjects", async () => (await client.getAllSubjects()).filter((n) => n.startsWith(prefix)).map(short));
  const first = await client.getSchemaMetadata(a, 1, false);
  await step("schema by id", async () => schema(await client.getBySubjectAndId(a, first.id)));
  await step("GUID", async () => first.guid && "guid 1");
  await step("schema by GUID", async () => schema(await client.getByGuid(first.guid)));

  await step("with version 1", () => client.testCompatibility(a, 1, avro(BAD)));
  await step("with all versions", () => client.testSubjectCompatibility(a, avro(TWO)));
  await step("with no version", () => client.testCompatibility(a, 9, avro(ONE)));
  const judged = (field) => client.testCompatibility(p, 1, protobuf(proto(field)));
  await step("Protobuf with a field added", () => judged("string a = 1;\n  string b = 2;"));
  await step("Protobuf with a field renamed", () => judged("string c = 1;"));
  await step("Protobuf with a field's type changed", () => judged("double a = 1;"));
  const more = protobuf(importing("  string b = 2;\n"), imported(p));
  await step("Protobuf that imports, with a field added", () => client.testCompatibility(u, 1, more));
  for (const level of Object.values(Compatibility)) {
    await step(`set ${level}`, () => client.updateCompatibility(a, level));
    await step(level, () => client.getCompatibility(a));
    await step(`add a field without default at ${level}`, () => client.testCompatibility(a, 2, avro(record(x, z))));
    await step(`remove a field without default at ${level}`, () => client.testCompatibility(a, 2, avro(record({ ...y, default: 0 }))));
  }
  await step("set no level", () => client.updateCompatibility(a, "SOME"));

  const strategy = { subjectNameStrategy: () => s("elsewhere") };
  const settings = { autoRegisterSchemas: false, useSchemaId: first.id, ...strategy };
  await step("Avro there and back", async () => {
    const sent = await new AvroSerializer(client, SerdeType.VALUE, settings).serialize("topic", { x: 7 });
    return { ...(await new AvroDeserializer(client, SerdeType.VALUE, strategy).deserialize("topic", sent)) };
  });

  await step("delete for good what is not deleted", () => client.deleteSubjectVersion(a, 2, true));
  await step("delete a version", () => client.deleteSubjectVersion(a, 2, false));
  await step("delete it again", () => client.deleteSubjectVersion(a, 2, false));
  await step("versions without it", () => client.getAllVersions(a));
  await step("register it anew", () => register(a, avro(TWO)));
  await step("its version then", async () => (await client.getLatestSchemaMetadata(a)).version);
  await step("delete what is referred to", () => client.deleteSubjectVersion(p, 1, false));
  await step("delete the subject for good at once", () => client.deleteSubject(a, true));
  await step("delete the subject", () => client.deleteSubject(a, false));
  await step("delete the subject again", () => client.deleteSubject(a, false));
  await step("delete the subject for good", () => client.deleteSubject(a, true));
}

main(...process.argv.slice(2));
