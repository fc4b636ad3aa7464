"""Decodes Avro datums with fastavro: lines {"schema": text, "hex": datum} in, lines of JSON out, in the same order.

Never: a line less than came in; a datum that fastavro refuses, or does not read to its end, is {"error": why}.
"""

import base64
import datetime
import decimal
import io
import json
import math
import sys

import fastavro


def main():
    schemas = {}
    for line in sys.stdin:
        asked = json.loads(line)
        text = asked["schema"]
        if text not in schemas:
            schemas[text] = fastavro.parse_schema(json.loads(text))
        print(json.dumps(decode(schemas[text], bytes.fromhex(asked["hex"]))))


def decode(schema, datum):
    source = io.BytesIO(datum)
    try:
        value = plain(fastavro.schemaless_reader(source, schema))
    except Exception as error:  # whatever it is, the line says so
        return {"error": repr(error)}
    return value if source.tell() == len(datum) else {"error": "bytes are left"}


def plain(value):
    """What JSON has no word for, as proto3 JSON would write it."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


if __name__ == "__main__":
    main()
