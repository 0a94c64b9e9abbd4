#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Leaf encoding v1, written a second time: what the Rust encoder is held to.

Guarantee: nothing here is derived from the Rust code. The rules are the ones in the head of schemas/src/canonical.rs;
standard library only, so that an auditor can read it in one sitting and run it anywhere.

    leaf_v1.py check FILE     recompute every vector in FILE; exit 1 at the first that differs
    leaf_v1.py write FILE     write the vectors anew (they are a function of this file alone)

In the vectors a value is a pair of type and content: ["utf8", "text"], ["bytes", hex], ["i64", number], ["bool", true],
["time", microseconds], ["list", [value...]], ["map", {key: value...}], ["commitment", hex], and, for long texts,
["repeat", [unit, times]].
"""
import hashlib
import hmac
import json
import random
import struct
import sys

UTF8, BYTES, I64, BOOL, TIME, LIST, MAP, COMMITMENT, BIG = 1, 2, 3, 4, 5, 6, 7, 0x10, 0x11
# Content longer than this stands as its length and hash.
BIG_BYTES_MIN = 4096


def sha256(data):
    return hashlib.sha256(data).digest()


def u16(n):
    return struct.pack(">H", n)


def u32(n):
    return struct.pack(">I", n)


def i64(n):
    return struct.pack(">q", n)


def tagged(tag, content):
    """Tag, length, content; or tag, length and hash of a big one."""
    if len(content) > BIG_BYTES_MIN:
        tag, content = BIG, u32(len(content)) + sha256(b"catena/big/v1\0" + bytes([tag]) + content)
    return bytes([tag]) + u32(len(content)) + content


def encode(value):
    kind, content = value
    if kind == "utf8":
        return tagged(UTF8, content.encode())
    if kind == "repeat":
        unit, times = content
        return tagged(UTF8, (unit * times).encode())
    if kind == "bytes":
        return tagged(BYTES, bytes.fromhex(content))
    if kind == "i64":
        return tagged(I64, i64(content))
    if kind == "bool":
        return tagged(BOOL, bytes([content]))
    if kind == "time":
        return tagged(TIME, i64(content))
    if kind == "list":
        return tagged(LIST, u32(len(content)) + b"".join(encode(v) for v in content))
    if kind == "map":
        keys = sorted(content, key=str.encode)
        return tagged(MAP, u32(len(keys)) + b"".join(encode(("utf8", k)) + encode(content[k]) for k in keys))
    if kind == "commitment":
        return tagged(COMMITMENT, bytes.fromhex(content))
    raise ValueError(kind)


def fields(values):
    """Header or body: {field id: value}, ascending."""
    return b"".join(u16(i) + encode(values[i]) for i in sorted(values))


def leaf_data(header, body):
    head = fields(header)
    return b"catena/leaf/v1\0" + u32(len(head)) + head + sha256(b"catena/body/v1\0" + fields(body))


def leaf_hash(data):
    return sha256(b"\0" + data)


def commitment(subject_key, event_id, field, encoded):
    """SHA-256 over a salt that only the subject's key gives (HKDF-SHA256, empty salt, 16 bytes)."""
    extracted = hmac.new(bytes(32), subject_key, hashlib.sha256).digest()
    info = b"catena/salt/v1\0" + event_id + u16(field)
    salt = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()[:16]
    return sha256(b"catena/field/v1\0" + salt + u16(field) + encoded)


# ---- a stored row ---------------------------------------------------------------------------------------------------

# Columns that the row vectors use: field id, type. The whole list is schemas/src/table.rs.
COLUMNS = {
    "event_id": (2, "utf8"), "time": (3, "time"), "topic": (4, "utf8"), "partition": (5, "i64"), "offset": (6, "i64"),
    "outcome": (7, "utf8"), "redaction": (9, "utf8"), "decision_index": (10, "i64"), "leaf_version": (11, "i64"),
    "kind": (12, "utf8"), "format": (20, "utf8"), "source": (22, "utf8"), "policy_rules": (37, "list"), "obligations": (39, "utf8"),
    "requester_issuer": (43, "utf8"), "agent": (50, "utf8"), "actors": (51, "list"), "actors_complete": (56, "bool"),
    "session": (60, "utf8"), "tool": (72, "utf8"), "impact": (75, "i64"), "jsonrpc_error": (84, "i64"),
    "scopes": (117, "list"), "token_expires": (119, "time"), "extra": (160, "utf8"), "reject_reason": (170, "utf8"),
    "raw": (172, "bytes"),
}
# Personal columns: one commitment, field 250, to the map of those present.
PERSONAL = 250
PERSONAL_COLUMNS = {"requester", "requester_email", "params", "token_subject", "ip", "body"}


def row_leaf(tenant, columns, tenant_key):
    header, body, personal = {1: ("utf8", tenant)}, {}, {}
    for name, content in columns.items():
        if name in PERSONAL_COLUMNS:
            personal[name] = ("utf8", content)
            continue
        field, kind = COLUMNS[name]
        if kind == "list":
            content = [("utf8", item) for item in content]
        (header if field < 20 else body)[field] = (kind, content)
    if personal:
        event_id = columns.get("event_id", "").encode()
        subject = columns["requester"].encode() if "requester" in columns else event_id
        subject_key = hmac.new(tenant_key, b"catena/subject/v1\0" + subject, hashlib.sha256).digest()
        body[PERSONAL] = ("commitment", commitment(subject_key, event_id, PERSONAL, encode(("map", personal))).hex())
    return leaf_hash(leaf_data(header, body))


# ---- the vectors ----------------------------------------------------------------------------------------------------

WORDS = ["", "a", "allow", "tickets:read", "agent:planner", "naïve", "日本語", "😀 \u0000\t\"\\", "ß" * 40, "\U0010ffff"]


def random_value(rng, depth=0):
    kind = rng.choice(["utf8", "utf8", "bytes", "i64", "bool", "time", "commitment", "repeat", "list", "map"])
    if depth == 3 and kind in ("list", "map"):
        kind = "utf8"
    if kind == "utf8":
        return [kind, rng.choice(WORDS) + rng.choice(WORDS)]
    if kind == "bytes":
        return [kind, rng.randbytes(rng.choice([0, 1, 16, 100])).hex()]
    if kind == "i64":
        return [kind, rng.choice([0, 1, -1, 2**63 - 1, -(2**63), rng.randint(-(10**6), 10**6)])]
    if kind == "bool":
        return [kind, rng.random() < 0.5]
    if kind == "time":
        return [kind, rng.choice([0, -1, -62135596800000000, 253402300799999999, 1763683200123456])]
    if kind == "commitment":
        return [kind, rng.randbytes(32).hex()]
    if kind == "repeat":
        # On both sides of the limit, in bytes: 4096 stands as it is, 4097 as its hash.
        return [kind, rng.choice([["x", 4095], ["x", 4096], ["x", 4097], ["é", 2048], ["é", 2049], ["ab", 40000]])]
    if kind == "list":
        return [kind, [random_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 2, 5, 300 if depth == 0 else 3]))]]
    keys = {rng.choice(WORDS) + str(rng.randint(0, 20)) for _ in range(rng.randint(0, 6))}
    return [kind, {key: random_value(rng, depth + 1) for key in sorted(keys)}]


def random_columns(rng, number):
    columns = {
        "event_id": f"e-{number}", "time": 1763683200000000 + number, "topic": "decisions", "partition": number % 8,
        "offset": number * 1000, "outcome": rng.choice(["allow", "deny", "step_up", "error", "unknown"]),
        "redaction": "r1", "decision_index": number % 3, "leaf_version": 1, "format": "catena",
    }
    optional = {
        "source": "gw-1", "policy_rules": rng.sample(WORDS, 3), "obligations": "[{\"log\":true}]",
        "requester_issuer": "https://idp.example", "agent": "agent:b", "actors": ["client:a", "agent:b"],
        "actors_complete": rng.random() < 0.5, "session": rng.choice(WORDS), "tool": "mail.send", "impact": rng.randint(0, 5),
        "jsonrpc_error": -32602, "scopes": ["mail:read"], "token_expires": 1763683300000000,
        "extra": "{\"blob\":\"" + "x" * rng.choice([10, 5000]) + "\"}", "requester": rng.choice(["dana@corp.example", "日本"]),
        "requester_email": "dana@corp.example", "params": "{\"id\":" + "1" * rng.choice([1, 5000]) + "}",
        "token_subject": "sub-1", "ip": "10.0.0.1",
    }
    columns.update({name: content for name, content in optional.items() if rng.random() < 0.5})
    return columns


# Records of authority: kind, and the columns of its table.
AUTHORITY = [
    ("grant", {"grant_id": "g-1", "grantor": "dana@corp.example", "grantee": "agent:planner", "scope": ["mail.read"]}),
    ("reauth", {"reauth_id": "ra-1", "by": "agent:planner", "approver": "dana@corp.example", "at": "2025-11-21T00:00:00.000000Z"}),
    ("exchange", {"subject_token_ref": "hmac:01", "issued_token_ref": "hmac:02", "scope_in": ["a", "b"], "scope_out": ["a"]}),
    ("tool", {"server": "mcp:mail", "tool": "mail.send", "impact": 3, "definition_digest": "sha256:00"}),
    ("lifecycle", {"event": "revoked", "subject_kind": "grant", "subject": "g-1"}),
    ("principal", {"principal": "agent:planner", "principal_kind": "agent", "aliases": ["spiffe://corp/planner"] * 300}),
]


def published():
    """The vector of the specification: one leaf, with two commitments of its own in the body."""
    key, event_id = bytes(range(32)), bytes(range(16))
    email = encode(("utf8", "alice@example.com"))
    params = encode(("map", {"path": ("utf8", "/etc/passwd"), "mode": ("utf8", "read")}))
    agent = hmac.new(b"k" * 32, b"alice@example.com", hashlib.sha256).digest()[:16]
    header = {
        1: ["utf8", "tenant-a"], 2: ["bytes", event_id.hex()], 3: ["time", 1763683200123456],
        4: ["bytes", "0102030405060708090a0b0c0d0e0f10"], 5: ["i64", 3], 6: ["i64", 41], 7: ["utf8", "DENY"],
        8: ["bytes", agent.hex()], 9: ["i64", 1],
    }
    body = {
        20: ["utf8", "read_file"], 21: ["utf8", "policy/7@v3"], 30: ["commitment", commitment(key, event_id, 30, email).hex()],
        31: ["commitment", commitment(key, event_id, 31, params).hex()],
        40: ["list", [["utf8", "agent:planner"], ["utf8", "agent:worker"]]],
    }
    return header, body


def leaf_vector(header, body):
    data = leaf_data(header, body)
    return {"header": header, "body": body, "leaf_data": data.hex(), "leaf_hash": leaf_hash(data).hex()}


def vectors():
    rng = random.Random(1)
    made = {"values": [], "leaves": [leaf_vector(*published())], "commitments": [], "rows": []}
    while len(made["values"]) < 80:
        value = random_value(rng)
        encoded = encode(value)
        made["values"].append({"value": value, "bytes": len(encoded), "sha256": sha256(encoded).hex()})
    for _ in range(60):
        header = {i: random_value(rng, 2) for i in rng.sample(range(1, 20), rng.randint(1, 9))}
        body = {i: random_value(rng, 2) for i in rng.sample(range(20, 65536), rng.randint(0, 9))}
        made["leaves"].append(leaf_vector(header, body))
    for _ in range(40):
        key, event_id, field = rng.randbytes(rng.choice([16, 32, 64, 100])), rng.randbytes(rng.randint(1, 40)), rng.randint(1, 65535)
        value = random_value(rng, 2)
        made["commitments"].append({
            "subject_key": key.hex(), "event_id": event_id.hex(), "field": field, "value": value,
            "commitment": commitment(key, event_id, field, encode(value)).hex(),
        })
    key = bytes(range(32))
    rows = [random_columns(rng, number) for number in range(60)]
    rows.append({"topic": "decisions", "partition": 1, "offset": 7, "redaction": "r1", "leaf_version": 1, "format": "opa",
                 "reject_reason": "json_truncated", "raw": "7b2261"})
    # Later kinds come last: the vectors above are what they were before there were any.
    rows.extend({**random_columns(rng, number), "outcome": "unknown", "kind": "execution"} for number in range(60, 66))
    for number, (kind, body) in enumerate(AUTHORITY):
        rows.append({"event_id": f"r-{number}", "time": 1763683200000000 + number, "topic": "authority", "partition": 0,
                     "offset": number, "redaction": "r1", "decision_index": 0, "leaf_version": 1, "format": "catena",
                     "source": "as-1", "kind": kind, "body": json.dumps(body, separators=(",", ":"))})
    for columns in rows:
        leaf = row_leaf("tenant-a", columns, key).hex()
        made["rows"].append({"tenant": "tenant-a", "tenant_key": key.hex(), "columns": columns, "leaf_hash": leaf})
    return made


def numbered(values):
    return {int(i): value for i, value in values.items()}


def check(made):
    for v in made["values"]:
        encoded = encode(v["value"])
        assert (len(encoded), sha256(encoded).hex()) == (v["bytes"], v["sha256"]), v
    for v in made["leaves"]:
        data = leaf_data(numbered(v["header"]), numbered(v["body"]))
        assert (data.hex(), leaf_hash(data).hex()) == (v["leaf_data"], v["leaf_hash"]), v
    for v in made["commitments"]:
        got = commitment(bytes.fromhex(v["subject_key"]), bytes.fromhex(v["event_id"]), v["field"], encode(v["value"]))
        assert got.hex() == v["commitment"], v
    for v in made["rows"]:
        assert row_leaf(v["tenant"], v["columns"], bytes.fromhex(v["tenant_key"])).hex() == v["leaf_hash"], v
    return sum(len(part) for part in made.values())


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in ("check", "write"):
        sys.exit(__doc__)
    if arguments[0] == "write":
        made = vectors()
        assert made["leaves"][0]["leaf_hash"] == "1442ca222d792d9f98ec3435721486fe9c96c3796ab5d22626b3320e7673cfc0"
        with open(arguments[1], "w", encoding="utf-8") as out:
            parts = (f'"{name}":[\n' + ",\n".join(json.dumps(v, ensure_ascii=True) for v in part) + "\n]" for name, part in made.items())
            out.write("{" + ",\n".join(parts) + "}\n")
    with open(arguments[1], encoding="utf-8") as file:
        print(check(json.load(file)), "vectors agree")


if __name__ == "__main__":
    main(sys.argv[1:])
