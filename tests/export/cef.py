"""Reads each line of standard input with parsers of the Common Event Format that others wrote, and
holds what they read against the log's own lines, whose file is the argument.

lognormalizer is rsyslog's parser: it undoes escapes, and takes a line only as a whole. pycef does
not undo them, and is asked about lines that have none."""

import datetime
import json
import subprocess
import sys
import tempfile

import pycef

# The dictionary's longest values; labels and what is not listed are shorter by far.
LIMITS = {"externalId": 40, "act": 63, "dvchost": 100}
TEXTS = {"reason": "reason", "act": "event", "dvchost": "host", "shost": "host", "sproc": "command"}
CUSTOM = {
    "cs1": "secret",
    "cs2": "chain",
    "cs3": "agent",
    "cs4": "run",
    "cs5": "instance",
    "cn1": "version",
    "cn2": "generation",
    "cn3": "status",
    "flexString1": "fence",
    "flexString2": "memory",
    "flexNumber1": "start",
    "flexNumber2": "milliseconds",
}
OUTCOMES = {"granted": "success", "done": "success", "denied": "failure", "failed": "failure"}


def visible(text, breaks):
    """CEF has escapes for line breaks alone, and only in the extension."""
    steers = set(range(0x20)) | set(range(0x7F, 0xA0)) | {0x200E, 0x200F}
    steers |= set(range(0x2028, 0x202F)) | set(range(0x2066, 0x206A))
    steers -= {0x0A, 0x0D} if breaks else set()
    return "".join(f"\\u{{{ord(c):x}}}" if ord(c) in steers else c for c in text)


def extension(record):
    expected = {"externalId": str(record["seq"]), "suid": str(record["uid"]), "spid": str(record["pid"])}
    expected["outcome"] = OUTCOMES.get(record["outcome"], "unknown")
    for key, field in TEXTS.items():
        expected[key] = record[field]
    for key, field in CUSTOM.items():
        value = record.get(field)
        if isinstance(value, int):
            value = str(min(value, 2**63 - 1))
        if value:
            expected[key], expected[f"{key}Label"] = value, field
    return {key: visible(value[: LIMITS.get(key, 1023)], True) for key, value in expected.items() if value}


def header(record):
    decided = record["outcome"] in ("granted", "denied")
    signature = f"{record['event']}.{record['outcome']}" if decided else record["event"]
    signature = visible(signature[:512], False) or "-"
    return {"DeviceVendor": "Mentiko", "DeviceProduct": "mentiko-exec", "SignatureID": signature}


def milliseconds(time):
    try:
        return max(0, int(datetime.datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() * 1000))
    except ValueError:
        return 0


def normalized(lines):
    """What rsyslog's parser makes of them. It passes over one character before the first key."""
    with tempfile.NamedTemporaryFile("w", suffix=".rb") as rules:
        rules.write("version=2\nrule=:%f:cef%\n")
        rules.flush()
        text = "".join(line.replace("|rt=", "| rt=", 1) + "\n" for line in lines)
        command = ["lognormalizer", "-r", rules.name, "-e", "json"]
        output = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout.decode()
    parsed = [json.loads(line) for line in output.split("\n") if line]
    assert len(parsed) == len(lines), f"{len(lines)} lines became {len(parsed)}"
    return [event["f"] if "f" in event else {"Extensions": {}, "unparsed": event} for event in parsed]


def compare(found, expected):
    for key, value in expected.items():
        if found.get(key) != value:
            yield f"{key}: {str(found.get(key))[:300]!r} is not {value[:300]!r}"


def faults(line, event, record):
    # Printable, and one line for every reader, whatever it takes for the end of a line.
    if not line.isprintable() and any(visible(c, False) != c for c in line) or len(line.splitlines()) != 1:
        yield "not one printable line"
    found = event.pop("Extensions")
    expected = extension(record)
    yield from compare(event, header(record))
    yield from compare(found, expected)
    if not event.get("Severity", "").isdigit() or not 0 <= int(event["Severity"]) <= 10:
        yield f"Severity: {event.get('Severity')!r}"
    time = int(found.pop("rt"))
    if time != milliseconds(record["time"]):
        yield f"rt: {time} is not {record['time']}"
    if not found.pop("msg"):
        yield "msg: empty"
    if not found.pop("cs6").startswith(f"{record['seq']}:") or found.pop("cs6Label") != "record":
        yield "cs6: not SEQ:HASH"
    yield from (f"{key}: not expected" for key in found.keys() - expected.keys())
    if "\\" not in line and line.strip() == line:
        values = pycef.parse(line) or {}
        # It calls custom keys by their labels.
        plain = {key: expected[key] for key in ("act", "reason", "shost", "suid") if key in expected}
        plain |= {field: expected[key] for key, field in CUSTOM.items() if key in expected}
        yield from (f"pycef: {fault}" for fault in compare(values, plain))


lines = sys.stdin.buffer.read().decode().split("\n")
assert lines.pop() == ""
with open(sys.argv[1], encoding="utf-8", newline="\n") as log:
    records = [json.loads(line) for line in log]
assert len(lines) == len(records), f"{len(records)} records became {len(lines)} lines"
failed = False
for number, (line, event, record) in enumerate(zip(lines, normalized(lines), records), 1):
    for fault in faults(line, event, record):
        failed = True
        print(f"line {number}: {fault}", file=sys.stderr)
print(len(lines))
sys.exit(failed)
