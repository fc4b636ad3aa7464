"""Asks a schema registry, by confluent-kafka for Python, and prints every answer as a line of JSON: {"step": ..., "answer": ...}.

    registry_client.py URL PREFIX

PREFIX is in front of every subject, so that a registry may be shared. Ids and GUIDs, which registries choose, are printed
as `id 1`, `guid 1` in the order in which they come. A refusal is {"status": ..., "code": ...}; messages are not compared.
"""

import json
import sys

import requests
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.common.schema_registry_client import ConfigCompatibilityLevel, ServerConfig
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.api import http_pb2

ONE = '{"type":"record","name":"R","namespace":"t","fields":[{"name":"x","type":"int"}]}'
TWO = '{"type":"record","name":"R","namespace":"t","fields":[{"name":"x","type":"int"},{"name":"y","type":"int","default":0}]}'
BAD = '{"type":"record","name":"R","namespace":"t","fields":[{"name":"x","type":"int"},{"name":"y","type":"int"}]}'
JSON_SCHEMA = '{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}'
PROTO = 'syntax = "proto3";\npackage t.v1;\n\nmessage A {\n  string a = 1;\n}\n'
PROTO_ADDED = 'syntax = "proto3";\npackage t.v1;\n\nmessage A {\n  string a = 1;\n  string b = 2;\n}\n'
PROTO_RENAMED = 'syntax = "proto3";\npackage t.v1;\n\nmessage A {\n  string c = 1;\n}\n'
PROTO_CHANGED = 'syntax = "proto3";\npackage t.v1;\n\nmessage A {\n  double a = 1;\n}\n'
PROTO_SPACED = 'syntax = "proto3";\n\npackage t.v1;\nmessage A { string a = 1; }'
IMPORTING = 'syntax = "proto3";\npackage u.v1;\n\nimport "t/v1/a.proto";\n\nmessage U {\n  t.v1.A a = 1;\n}\n'
IMPORTING_MORE = 'syntax = "proto3";\npackage u.v1;\n\nimport "t/v1/a.proto";\n\nmessage U {\n  t.v1.A a = 1;\n  string b = 2;\n}\n'


class Names:
    """What a registry chose, by what it is called here."""

    def __init__(self):
        self.seen = {}

    def of(self, kind, value):
        if value is None:
            return None
        known = self.seen.setdefault(kind, {})
        return f"{kind} {known.setdefault(value, len(known) + 1)}"


def main(url, prefix):
    client = SchemaRegistryClient({"url": url, "timeout": 30, "max.retries": 0})
    # Apicurio now and then does not answer what comes on a connection after a refusal.
    client._rest_client.session.headers["Connection"] = "close"
    names = Names()

    def shown(value):
        if hasattr(value, "schema_id") and hasattr(value, "subject"):
            of = {
                "subject": value.subject and value.subject.removeprefix(prefix),
                "version": value.version,
                "id": names.of("id", value.schema_id),
            }
            if getattr(value, "schema", None):
                of["schema"] = shown(value.schema)
            return {k: v for k, v in of.items() if v is not None}
        if isinstance(value, Schema):
            # Some registries write an Avro schema anew.
            text = json.loads(value.schema_str) if value.schema_type == "AVRO" else value.schema_str
            references = [[r.name, r.subject.removeprefix(prefix), r.version] for r in value.references or []]
            return {"type": value.schema_type, "text": text, "references": references}
        if isinstance(value, ServerConfig):
            return shown(value.compatibility or value.compatibility_level)
        if isinstance(value, dict) and "compatibilityLevel" in value:
            return value["compatibilityLevel"]
        if isinstance(value, (list, tuple)):
            return [shown(item) for item in value]
        if isinstance(value, str):
            return value.removeprefix(prefix)
        return getattr(value, "value", value)

    def step(name, ask):
        try:
            answer = shown(ask())
        except SchemaRegistryError as error:
            answer = {"status": error.http_status_code, "code": error.error_code}
        except Exception as error:  # An answer that the client cannot read is an answer too.
            answer = {"failed": type(error).__name__}
        print(json.dumps({"step": name, "answer": answer}), flush=True)

    def s(name):
        return prefix + name

    def raw(method, path, body=None):
        reply = requests.request(method, url + path, json=body, timeout=30)
        try:
            answer = reply.json()
        except ValueError:
            answer = reply.text
        if reply.status_code >= 400:
            code = answer.get("error_code") if isinstance(answer, dict) else None
            raise SchemaRegistryError(reply.status_code, code or -1, "")
        return answer

    def avro(text):
        return Schema(text, "AVRO")

    def proto(text, *references):
        return Schema(text, "PROTOBUF", [SchemaReference(*reference) for reference in references])

    def subjects(**more):
        # Apicurio does not look at the prefix, and others use it too.
        return [name for name in client.get_subjects(subject_prefix=prefix, **more) if name.startswith(prefix)]

    def fresh(ask):
        client.clear_caches()
        return ask()

    a, p, u = s("avro"), s("proto"), s("importing")
    imported = ("t/v1/a.proto", p, 1)

    # What is not there.
    step("versions of no subject", lambda: client.get_versions(a))
    step("version of no subject", lambda: client.get_version(a, 1))
    step("latest of no subject", lambda: client.get_latest_version(a))
    step("look-up in no subject", lambda: client.lookup_schema(a, avro(ONE)))
    step("schema of no id", lambda: client.get_schema(2_000_000_000))
    step("schema of no GUID", lambda: client.get_schema_by_guid("00000000-0000-0000-0000-000000000000"))
    step("delete no subject", lambda: client.delete_subject(a))
    step("level of no subject", lambda: raw("GET", f"/config/{a}"))
    step("level of no subject, or the registry's", lambda: raw("GET", f"/config/{a}?defaultToGlobal=true"))
    step("mode of no subject", lambda: raw("GET", f"/mode/{a}"))

    # Registering.
    step("register Avro", lambda: names.of("id", client.register_schema(a, avro(ONE))))
    step("register it again", lambda: names.of("id", fresh(lambda: client.register_schema(a, avro(ONE)))))
    step("register it elsewhere", lambda: names.of("id", client.register_schema(s("elsewhere"), avro(ONE))))
    step("register no Avro", lambda: client.register_schema(a, avro('{"type":"recor"}')))
    step("register no JSON", lambda: client.register_schema(a, avro("{")))
    step("register what is not compatible", lambda: client.register_schema(a, avro(BAD)))
    step("register what is compatible", lambda: names.of("id", client.register_schema(a, avro(TWO))))
    step("register Protobuf", lambda: names.of("id", client.register_schema(p, proto(PROTO), True)))
    step("register no Protobuf", lambda: client.register_schema(p, proto("message {"), True))
    step("register the same but for blanks", lambda: names.of("id", client.register_schema(p, proto(PROTO_SPACED), True)))
    missing = ("t/v1/a.proto", s("nobody"), 1)
    step("register Protobuf with a reference to nothing", lambda: client.register_schema(u, proto(IMPORTING, missing), True))
    step("register Protobuf with a reference", lambda: names.of("id", client.register_schema(u, proto(IMPORTING, imported), True)))
    step("register JSON Schema", lambda: names.of("id", client.register_schema(s("json"), Schema(JSON_SCHEMA, "JSON"))))

    # Reading.
    step("versions", lambda: client.get_versions(a))
    step("version 1", lambda: fresh(lambda: client.get_version(a, 1)))
    step("latest version", lambda: fresh(lambda: client.get_latest_version(a)))
    step("version -1", lambda: raw("GET", f"/subjects/{a}/versions/-1")["version"])
    step("version 9", lambda: client.get_version(a, 9))
    step("version abc", lambda: raw("GET", f"/subjects/{a}/versions/abc"))
    step("version 0", lambda: raw("GET", f"/subjects/{a}/versions/0"))
    step("text of a version", lambda: raw("GET", f"/subjects/{a}/versions/1/schema"))
    step("Protobuf with a reference", lambda: fresh(lambda: client.get_latest_version(u)))
    step("JSON Schema", lambda: fresh(lambda: client.get_latest_version(s("json"))))
    step("look-up", lambda: client.lookup_schema(a, avro(ONE)))
    step("look-up of what is not there", lambda: client.lookup_schema(a, avro(BAD)))
    step("subjects", lambda: subjects())
    step("types", lambda: sorted(client.get_schema_types()))
    step("who refers to it", lambda: [names.of("id", i) for i in client.get_referenced_by(p, 1)])

    one = raw("GET", f"/subjects/{a}/versions/1")["id"]
    step("schema by id", lambda: fresh(lambda: client.get_schema(one)))
    step("subjects of an id", lambda: sorted(client.get_subjects_by_schema_id(one)))
    step("versions of an id", lambda: sorted([v.subject.removeprefix(prefix), v.version] for v in client.get_schema_versions(one)))
    of_proto = raw("GET", f"/subjects/{p}/versions/1")["id"]
    step("Protobuf as a descriptor", lambda: serialized(raw("GET", f"/schemas/ids/{of_proto}?format=serialized")["schema"]))
    guid = raw("GET", f"/subjects/{a}/versions/1").get("guid")
    step("GUID", lambda: names.of("guid", guid))
    step("schema by GUID", lambda: client.get_schema_by_guid(guid or "none"))

    # Compatibility.
    step("compatible", lambda: client.test_compatibility(a, avro(TWO)))
    step("not compatible", lambda: client.test_compatibility(a, avro(BAD.replace('"y"', '"z"'))))
    step("why it is not", lambda: bool(raw("POST", f"/compatibility/subjects/{a}/versions/latest?verbose=true", {"schema": BAD.replace('"y"', '"z"')}).get("messages")))
    step("with version 1", lambda: client.test_compatibility(a, avro(BAD), 1))
    step("with all versions", lambda: client.test_compatibility_all_versions(a, avro(TWO)))
    step("with no version", lambda: client.test_compatibility(a, avro(ONE), 9))
    step("Protobuf with a field added", lambda: client.test_compatibility(p, proto(PROTO_ADDED)))
    step("Protobuf with a field renamed", lambda: client.test_compatibility(p, proto(PROTO_RENAMED)))
    step("Protobuf with a field's type changed", lambda: client.test_compatibility(p, proto(PROTO_CHANGED)))
    step("Protobuf that imports, with a field added", lambda: client.test_compatibility(u, proto(IMPORTING_MORE, imported)))
    for level in ConfigCompatibilityLevel:
        step(f"set {level.value}", lambda: client.set_config(a, ServerConfig(compatibility=level))["compatibility"])
        step(f"{level.value}", lambda: client.get_config(a))
        step(f"add a field without default at {level.value}", lambda: client.test_compatibility(a, avro(BAD.replace('"y"', '"z"'))))
        step(f"remove a field without default at {level.value}", lambda: client.test_compatibility(a, avro(TWO.replace('{"name":"x","type":"int"},', ""))))
    step("set no level", lambda: client.set_compatibility(a, "SOME"))
    step("reset the level", lambda: client.delete_config(a))
    step("level after that", lambda: raw("GET", f"/config/{a}"))

    # Modes.
    step("mode", lambda: client.get_global_mode())
    readonly = s("readonly")
    step("set READONLY", lambda: client.update_mode(readonly, "READONLY"))
    step("register at READONLY", lambda: isinstance(client.register_schema(readonly, avro(ONE)), int))
    step("set no mode", lambda: client.update_mode(readonly, "SOME"))
    step("reset the mode", lambda: client.delete_mode(readonly))

    # Serializers.
    context = SerializationContext("topic", MessageField.VALUE)
    # Named here, so that the serializers do not ask the registry, which has to be a newer one for that.
    strategy = {"subject.name.strategy": lambda *_: s("elsewhere")}
    serialize = AvroSerializer(client, ONE, conf={"auto.register.schemas": False, **strategy})
    deserialize = AvroDeserializer(client, conf=strategy)
    step("Avro there and back", lambda: deserialize(serialize({"x": 7}, context), context))

    def pattern():
        # The third message of its file, so that its index is not the one that is left out.
        kind, settings = http_pb2.CustomHttpPattern, {"use.deprecated.format": False, "subject.name.strategy": lambda *_: s("pattern")}
        sent = ProtobufSerializer(kind, client, settings)(kind(kind="HEAD", path="/x"), context)
        return ProtobufDeserializer(kind, settings, client)(sent, context).path

    step("Protobuf there and back", pattern)

    # Deleting.
    step("delete for good what is not deleted", lambda: raw("DELETE", f"/subjects/{a}/versions/2?permanent=true"))
    step("delete a version", lambda: client.delete_version(a, 2))
    step("delete it again", lambda: raw("DELETE", f"/subjects/{a}/versions/2"))
    step("versions without it", lambda: client.get_versions(a))
    step("versions with it", lambda: client.get_versions(a, deleted=True))
    step("register it anew", lambda: names.of("id", fresh(lambda: client.register_schema(a, avro(TWO)))))
    step("its version then", lambda: fresh(lambda: client.get_latest_version(a)).version)
    step("delete what is referred to", lambda: raw("DELETE", f"/subjects/{p}/versions/1"))
    step("delete the subject for good at once", lambda: raw("DELETE", f"/subjects/{a}?permanent=true"))
    step("delete the subject", lambda: client.delete_subject(a))
    step("delete the subject again", lambda: raw("DELETE", f"/subjects/{a}"))
    step("schema by id still", lambda: fresh(lambda: client.get_schema(one)))
    step("subjects without it", lambda: subjects())
    step("subjects with it", lambda: subjects(deleted=True))
    step("delete the subject for good", lambda: raw("DELETE", f"/subjects/{a}?permanent=true"))
    step("subjects at the end", lambda: subjects(deleted=True))


def serialized(text):
    """Whether a text is a base64 file descriptor with the message in it."""
    import base64

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    return [message.name for message in file.message_type]


if __name__ == "__main__":
    main(*sys.argv[1:])
