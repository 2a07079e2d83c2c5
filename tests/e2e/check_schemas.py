#!/usr/bin/env python3
"""Holds what the program printed against its own schemas, by the jsonschema package.

The only argument is a file of lines `{"command": ..., "schema": NAME, "value": ...}`, and a folder of NAME.schema.json is the
second. Prints one JSON line a command. A property that the schema does not describe is a complaint too.
"""

import copy
import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator


def strict(schema):
    """The schema without room for properties that it does not describe."""
    schema = copy.deepcopy(schema)
    for part in [schema, *schema.get("$defs", {}).values()]:
        if "properties" in part and "additionalProperties" not in part:
            part["unevaluatedProperties"] = False
    return schema


def main():
    printed, folder = Path(sys.argv[1]), Path(sys.argv[2])
    validators = {}
    for line in printed.read_text().splitlines():
        one = json.loads(line)
        name = one["schema"]
        if name not in validators:
            schema = json.loads((folder / f"{name}.schema.json").read_text())
            Draft202012Validator.check_schema(schema)
            validators[name] = Draft202012Validator(strict(schema))
        errors = [f"{error.json_path}: {error.message[:300]}" for error in validators[name].iter_errors(one["value"])]
        result = {"command": one["command"], "schema": name, "holds": not errors, "detail": "; ".join(errors[:3])}
        print(json.dumps(result))


if __name__ == "__main__":
    main()
