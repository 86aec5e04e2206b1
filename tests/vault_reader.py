"""An independent reader of vaults, written from docs/vault-format.md.

    vault_reader.py VAULT INSTANCE-ID key|passphrase|recovery|keys|sealed [PINS]

reads the key (in hexadecimal digits) or passphrase from standard input and prints all that is in the
vault as JSON; with `keys`, the derived keys instead; with `sealed`, the opened buckets and each sealed
value; with the file of a run's pins, these. Exits with 1 for a vault that is to be refused.
Needs `cryptography` 44 or later.
"""
import hashlib, hmac, json, os, re, struct, sys, uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

HEADER, ENTRY, SLOT = 976, 12, 108
STATES = {0x1D: "current", 0x62: "previous", 0xB3: "revoked"}
PERIODS = {2: "monthly", 3: "quarterly", 4: "yearly"}
SEALED = {}


def need(condition, what):
    if not condition:
        raise ValueError(what)


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def hkdf(ikm, salt, info):
    # RFC 5869; 32 bytes are one block.
    return mac(mac(salt, ikm), info + b"\x01")


class Fields:
    """Takes little-endian fields off the front of bytes."""

    def __init__(self, data):
        self.rest = data

    def take(self, length):
        need(length <= len(self.rest), "a field that ends too early")
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken

    def number(self, kind):
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def text(self):
        return self.take(self.number("H")).decode()

    def name(self, marks):
        name = self.text()
        pattern = "[A-Za-z0-9][A-Za-z0-9%s]{0,127}" % marks
        need(re.fullmatch(pattern, name) and not name.endswith("/"), "a name that is none")
        return name


def open_slot(slot, instance, vault_id, key, passphrase, recovery):
    """The root key, or None where the slot is for another key."""
    kind, memory, passes, lanes = struct.unpack("<4I", slot[:16])
    salt, nonce, sealed = slot[16:48], slot[48:60], slot[60:]
    if kind == 1 and key:
        given = key
    elif kind == 3 and recovery:
        given = recovery
    elif kind == 2 and passphrase and memory <= 1 << 18 and 1 <= passes and memory * passes <= 1 << 20 and 1 <= lanes <= 16:
        argon2 = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
        given = argon2.derive(passphrase)
    else:
        return None
    kek = hkdf(given, salt, b"mentiko/1 slot" + instance + vault_id)
    aad = b"MENTIKO1" + struct.pack("<I", 1) + vault_id + bytes([kind])
    try:
        return AESGCM(kek).decrypt(nonce, sealed, aad)
    except InvalidTag:
        return None


def read_version(fields, root, vault_id, name):
    number, state, created = fields.number("I"), fields.number("B"), fields.number("Q")
    need(state in STATES, "the state of a version")
    salt, nonce, sealed = fields.take(32), fields.take(12), fields.take(fields.number("I"))
    version = {"version": number, "state": STATES[state], "created": created}
    if not sealed:
        need(state == 0xB3, "a version without a value that is not revoked")
        return {**version, "value": None}
    SEALED[f"{name}:{number}"] = sealed.hex()
    context = b"mentiko/1 value" + vault_id + struct.pack("<H", len(name)) + name.encode()
    context += struct.pack("<I", number) + salt
    value = AESGCM(hkdf(root, b"", context)).decrypt(nonce, sealed, context)
    return {**version, "value": value.hex()}


def read_record(fields, root, vault_id):
    name = fields.name("._/-")
    scope = fields.number("B")
    need(scope in (0x2E, 0xD1), "the scope of a record")
    chains = None if scope == 0x2E else [fields.name("._-") for _ in range(fields.number("H"))]
    period, days = fields.number("B"), fields.number("H")
    need(1 <= days <= 3650 if period == 1 else days == 0 and period in (0, *PERIODS), "a rotation")
    record = {"scope": chains, "rotation": f"{days}d" if period == 1 else PERIODS.get(period)}
    record.update(note=fields.text(), created=fields.number("Q"), changed=fields.number("Q"))
    record["versions"] = [read_version(fields, root, vault_id, name) for _ in range(fields.number("H"))]
    return name, record


def read_pins(path, root, vault_id):
    with open(path, "rb") as file:
        data = file.read()
    run = os.path.basename(path).removesuffix(".run")
    blocks, plain = Fields(data), None
    while blocks.rest:
        need(blocks.take(8) == b"MENTRUN1", "not MENTRUN1")
        length, salt, nonce = blocks.number("I"), blocks.take(32), blocks.take(12)
        sealed, aad = blocks.take(length + 16), b"MENTRUN1" + vault_id + run.encode()
        try:
            plain = plain or AESGCM(hkdf(root, b"", b"mentiko/1 run" + salt)).decrypt(nonce, sealed, aad)
        except InvalidTag:
            pass
    need(plain, "no block opens")
    fields = Fields(plain)
    pins = {"run": run, "chain": fields.name("._-"), "created": fields.number("Q")}
    pins["versions"] = {fields.name("._/-"): fields.number("I") for _ in range(fields.number("H"))}
    need(not fields.rest, "bytes after the pins")
    return pins


def read_ledger(fields):
    retired = []
    for _ in range(fields.number("H")):
        key, last, line, time = fields.take(32), fields.number("Q"), fields.take(32), fields.number("Q")
        retired.append({"key": key.hex(), "last": last, "hash": line.hex(), "time": time})
    approvals = {}
    for _ in range(fields.number("I")):
        chain, time = fields.name("._-"), fields.number("Q")
        approvals[chain] = {"time": time, "definition": fields.take(fields.number("I")).decode()}
    need(not fields.rest, "bytes after the ledger's last approval")
    return {"retired": retired, "approvals": approvals}


def read(data, instance, key, passphrase, recovery, what, pins):
    need(len(data) >= HEADER, "too short for a header")
    magic, form, flags, vault_id, generation, write_salt, count, used = struct.unpack("<8sII16sQ32sII", data[:80])
    need((magic, form, flags) == (b"MENTIKO1", 1, 0), "not MENTIKO1, format 1")
    slots = [data[at : at + SLOT] for at in range(80, 80 + 8 * SLOT, SLOT)]
    kinds = [struct.unpack("<I", slot[:4])[0] for slot in slots]
    need(all(kind <= 3 for kind in kinds) and sum(kind != 0 for kind in kinds) == used, "the slots")
    need(count.bit_count() == 1 and count <= 1 << 20 and HEADER + ENTRY * (count + 1) <= len(data), "the bucket count")
    roots = (open_slot(slot, instance, vault_id, key, passphrase, recovery) for slot in slots)
    root = next((root for root in roots if root), None)
    need(root, "no slot opens under this key")
    header_key, index_key = (hkdf(root, b"", b"mentiko/1 " + use) for use in (b"header", b"index"))
    need(hmac.compare_digest(mac(header_key, data[: HEADER - 32]), data[HEADER - 32 : HEADER]), "the header MAC")
    if pins:
        return read_pins(pins, root, vault_id)
    secrets, end, bucket_keys, plain = {}, HEADER + ENTRY * (count + 1), [], []
    for index in range(count + 1):
        offset, length = struct.unpack_from("<QI", data, HEADER + ENTRY * index)
        need(offset == end and length >= 32 and offset + length <= len(data), f"the place of bucket {index}")
        end += length
        if index < count:
            key = hkdf(root, b"", b"mentiko/1 bucket" + write_salt + struct.pack("<QI", generation, index))
            bucket_keys.append(key)
        else:
            key = ledger_key = hkdf(root, b"", b"mentiko/1 ledger" + write_salt + struct.pack("<Q", generation))
        aad = vault_id + struct.pack("<QII", generation, count, index)
        fields = Fields(AESGCM(key).decrypt(data[offset : offset + 12], data[offset + 12 : end], aad))
        if index == count:
            ledger = read_ledger(fields)
            break
        plain.append(fields.rest.hex())
        for _ in range(fields.number("I")):
            name, record = read_record(fields, root, vault_id)
            home = int.from_bytes(mac(index_key, name.encode())[:4], "big") * count >> 32
            need(home == index and name not in secrets, f"a record of {name} in bucket {index}")
            secrets[name] = record
        need(not fields.rest, f"bytes after the records of bucket {index}")
    need(end == len(data), "bytes after the ledger")
    if what == "sealed":
        return {"buckets": plain, "sealed": SEALED}
    if what == "keys":
        keys = {"vault id": vault_id, "root key": root, "header key": header_key, "index key": index_key}
        keys["audit key"] = hkdf(root, b"", b"mentiko/1 audit")
        keys["ledger key"] = ledger_key
        keys.update((f"bucket key {index}", key) for index, key in enumerate(bucket_keys))
        return {name: key.hex() for name, key in keys.items()}
    found = {"vault_id": vault_id.hex(), "generation": generation, "buckets": count, "secrets": secrets}
    return found | {"ledger": ledger}


path, instance, kind, *pins = sys.argv[1:]
given = sys.stdin.buffer.read()
key = bytes.fromhex(given.decode()) if kind in ("key", "keys", "sealed") else None
passphrase = given if kind == "passphrase" else None
recovery = bytes.fromhex(given.decode()) if kind == "recovery" else None
try:
    with open(path, "rb") as file:
        data = file.read()
    print(json.dumps(read(data, uuid.UUID(instance).bytes, key, passphrase, recovery, kind, *pins or [None])))
except (ValueError, InvalidTag) as refused:
    sys.exit(f"vault_reader: refused: {str(refused) or 'a tag that does not fit'}")
