"""Checks each line of standard input against the Open Cybersecurity Schema Framework, in the version
that it names and in every later one that the package ships."""

import json
import re
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema, get_packaged_versions


def ordered(version):
    return tuple(map(int, version.split(".")))


VERSIONS = sorted((v for v in get_packaged_versions() if re.fullmatch(r"\d+\.\d+\.\d+", v)), key=ordered)
SCHEMAS = {version: get_ocsf_schema(version) for version in VERSIONS}
VALIDATORS = {}


def validator(version, class_uid, profiles):
    key = (version, class_uid, profiles)
    if key not in VALIDATORS:
        schema = OcsfJsonSchemaEmbedded(SCHEMAS[version])
        name = schema.lookup_class_name_from_uid(class_uid)
        document = schema.get_class_schema(name, list(profiles))
        Draft202012Validator.check_schema(document)
        VALIDATORS[key] = Draft202012Validator(document)
    return VALIDATORS[key]


def captions(version, event):
    """The names beside the numbers are those of the schema, which JSON Schema does not express."""
    classes = SCHEMAS[version]["classes"].values()
    attributes = next(c for c in classes if c["uid"] == event["class_uid"])["attributes"]
    names = [("activity_id", "activity_name"), ("category_uid", "category_name"), ("class_uid", "class_name")]
    names += [(f"{name}_id", name) for name in ("severity", "status", "action", "disposition", "log_type")]
    for number, name in names:
        if number in event and event[number] != 99:
            expected = attributes[number]["enum"][str(event[number])]["caption"]
            yield from [] if event[name] == expected else [f"{name}: {event[name]!r} is not {expected!r}"]


def faults(event):
    named = event["metadata"]["version"]
    assert named in VERSIONS, named
    profiles = tuple(event["metadata"]["profiles"])
    for version in VERSIONS[VERSIONS.index(named) :]:
        for error in validator(version, event["class_uid"], profiles).iter_errors(event):
            yield f"{version}: {error.json_path}: {error.message[:300]}"
        yield from (f"{version}: {fault}" for fault in captions(version, event))
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        yield "type_uid is not of the class and the activity"
    # Left to the dictionary's types: whole numbers of 64 bits, and milliseconds of this time.
    if not 0 <= event["time"] < 2**63 or event["metadata"]["sequence"] >= 2**63:
        yield "a number is out of range"
    for observable in event["observables"]:
        value = event
        for part in observable["name"].split("."):
            value = value[part]
        if value != observable["value"]:
            yield f"observable {observable['name']} is {observable['value']!r}, not {value!r}"


count = failed = 0
for line in sys.stdin:
    count += 1
    for fault in faults(json.loads(line)):
        failed += 1
        print(f"line {count}: {fault}", file=sys.stderr)
print(count)
sys.exit(failed != 0)
