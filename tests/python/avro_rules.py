"""Says of pairs of Avro schemas whether the reader can read what the writer wrote, by Apache Avro's own library for Python.

In: lines of {"name", "reader", "writer"}. Out: a line {"step": name, "answer": true or false} for each.
"""

import json
import sys

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

for line in sys.stdin:
    pair = json.loads(line)
    reader, writer = (avro.schema.parse(pair[side]) for side in ("reader", "writer"))
    verdict = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer).compatibility
    print(json.dumps({"step": pair["name"], "answer": verdict == SchemaCompatibilityType.compatible}))
