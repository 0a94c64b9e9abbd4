#!/usr/bin/env python3
"""Answers event sets: a JSON list of events a line in, a JSON list of chains a line out.

The order of events is (time, source, event id, content), as in the product, where the model alone would order by a digest.
"""
import hashlib
import json
import sys

import delegation_model as model

SEP = "\x01"
TIERS = {5: "C2", 4: "C3", 3: "C4"}


def uid(e):
    # A separator below every letter: the order of the text is the order of its parts.
    return f"{e['t']:020d}{SEP}{e['src']}{SEP}{e['eid']}{SEP}{e['content']}"


def chain_id(events, members):
    """The model's choice of the key, in the product's digest."""
    keys = []
    for u in members:
        e = events[u]
        for k in model.groups(e):
            keys.append((0, [k[2], "", ""]) if k[1] == "txn" else (1, [k[2], "", k[3]]))
        keys.append((2, [u]))
    strength, parts = min(keys)
    tenant = events[members[0]]["tenant"]
    tail = b""
    if strength == 2:
        _, source, event, content = parts[0].split(SEP)
        parts, tail = [source, event], bytes.fromhex(content)
    digest = hashlib.sha256()
    for part in [tenant, ("transaction", "trace", "event")[strength], *parts]:
        digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    digest.update(tail)
    return "c-" + digest.hexdigest()[:20]


def ghost(key):
    kind = {"decision": "decision", "span": "span", "cont": "state"}[key[1]]
    return [kind, *key[2:4]] if kind == "span" else [kind, key[2]]


def answer(told):
    chains, events = [], model.dedupe(told)
    for cid, (members, edges, ghosts, conflicts, cut) in model.batch(told).items():
        tenants = {events[u]["tenant"] for u in members}
        short = lambda u: u.split(SEP, 1)[1].replace(SEP, "|")
        chains.append({
            "tenant": tenants.pop(),
            "id": cid,
            "members": sorted(map(short, members)),
            "edges": sorted([short(c), short(p), TIERS[t]] for c, p, t in edges),
            "ghosts": sorted(map(ghost, ghosts)),
            "several": sorted(map(short, conflicts)),
            "cut": sorted(map(short, cut)),
        })
    return sorted(chains, key=lambda c: (c["tenant"], c["id"]))


model.uid = uid
model.chain_id = chain_id
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))))
