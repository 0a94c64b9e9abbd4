#!/usr/bin/env python3
"""Writes decision events of a made-up fleet of agents: native NDJSON, about 1.4 KB each. The same arguments, the same bytes.

Usage: gen.py EVENTS SEED > events.ndjson

The fleet: 400 sessions at a time. Each has one person, one client, one to three sub-agents and one to four tool servers,
and walks over their tools. Calls carry the decision that led to them, trace and span ids and token references, so
that chains can be rebuilt from the events alone.
"""

import json
import random
import sys
from datetime import datetime, timedelta, timezone

SESSIONS_LIVE = 400
FIRST_US = 1_760_000_000_000_000
TOKEN_LIFE_US = 900_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
IDP = "https://idp.corp.example"

TOOLS = {
    "crm": "contact.search contact.read contact.update deal.read deal.update export.create",
    "billing": "invoice.search invoice.read refund.create payment.read account.close",
    "support": "ticket.search ticket.read ticket.reply ticket.delete kb.search",
    "mail": "mail.search mail.read mail.send mail.forward",
    "files": "file.search file.read file.write file.share file.delete",
    "warehouse": "sql.query sql.explain table.describe table.drop",
    "deploy": "service.status service.restart config.read config.write",
    "web": "page.fetch search.query",
}
TOOLS = {server: names.split() for server, names in TOOLS.items()}
ACTIONS = {
    **dict.fromkeys(("search", "query"), "query"),
    **dict.fromkeys(("read", "describe", "explain", "status", "fetch"), "read"),
    **dict.fromkeys(("drop", "close", "delete", "restart"), "admin"),
}
WORDS = (
    "invoice customer quarterly refund renewal outage latency contract escalation shipment password reset onboarding "
    "audit ledger export schedule warranty replacement migration tenant policy reviewer summary overdue balance"
).split()
PEOPLE = [f"user{n:04d}@corp.example" for n in range(2000)]
CLIENTS = ["claude-code", "chat-desktop", "ide-copilot", "support-bot", "ops-console"]
AGENTS = ["planner", "researcher", "billing-agent", "mailer", "summarizer", "sre-agent", "crm-agent"]
# verdict: (what the gateway did, why)
FATES = {"allow": ("forwarded", []), "deny": ("blocked", ["scope_missing"]), "step_up": ("held", ["mfa_required"])}


def instant(us):
    at = EPOCH + timedelta(microseconds=us)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Session:
    """One person at work through one client; draws everything that stays the same for its calls."""

    def __init__(self, dice):
        self.person = dice.choice(PEOPLE)
        self.client = dice.choice(CLIENTS)
        self.agents = dice.sample(AGENTS, dice.choice([1, 1, 2, 3]))
        self.id = "s-" + digits(dice, 12)
        self.trace = digits(dice, 32)
        self.token = digits(dice, 32)
        self.servers = dice.sample(list(TOOLS), dice.choice([1, 2, 2, 3, 4]))
        self.calls_left = max(1, int(dice.expovariate(1 / 14)))
        self.calls = 0
        self.open = []  # decisions that a later call may follow from, the newest last


def digits(dice, count):
    return f"{dice.getrandbits(4 * count):0{count}x}"


def fate(dice):
    drawn = dice.random()
    return "deny" if drawn < 0.06 else "step_up" if drawn < 0.09 else "allow"


def event(dice, session, now, number):
    """The next call of a session. The order of draws is part of the format: it makes the bytes reproducible."""
    server = dice.choice(session.servers)
    tool = dice.choice(TOOLS[server])
    action = ACTIONS.get(tool.split(".")[1], "update")
    verdict = fate(dice)
    enforced, reasons = FATES[verdict]
    depth = min(len(session.agents), 1 + session.calls % len(session.agents))
    decision, span = digits(dice, 26).upper(), digits(dice, 16)
    gateway = dice.randrange(8)
    version = "git-" + digits(dice, 7) if dice.random() < 0.001 else "git-9f3c1d2"
    query = " ".join(dice.choice(WORDS) for _ in range(dice.randrange(2, 9)))
    record, limit = dice.randrange(100000), dice.choice([10, 50, 100])
    address = f"10.{dice.randrange(8)}.{dice.randrange(250)}.{dice.randrange(250)}"
    url = f"https://{server}-mcp.corp.example"
    links = {"trace": session.trace, "span": span}
    if session.open:
        links["parent_decision"] = session.open[-1]
    return {
        "id": decision,
        "time": instant(now),
        "source": {"kind": "catena", "instance": f"gw-{gateway}", "seq": number},
        "decision": {
            "verdict": verdict,
            "basis": "explicit",
            "enforced": enforced,
            "phase": "invoke",
            "policy": {"engine": "opa", "id": "mcp/authz", "version": version, "rules": ["tool_" + action]},
            "reasons": reasons,
        },
        "requester": {"id": session.person, "issuer": IDP, "kind": "human", "assurance": "verified", "roles": ["staff"]},
        "actors": [{"id": "client:" + session.client, "kind": "client", "assurance": "verified"}]
        + [{"id": "agent:" + name, "kind": "agent", "assurance": "verified"} for name in session.agents[:depth]],
        "actors_source": "act_claim",
        "actors_complete": True,
        "session": {"id": session.id},
        "server": {"id": url, "name": server},
        "tool": {"name": tool, "action": action},
        "call": {
            "protocol": "mcp",
            "method": "tools/call",
            "jsonrpc_id": str(session.calls),
            "params": {"q": query, "id": f"{server.upper()}-{record}", "limit": limit},
        },
        "token": {
            "ref": session.token,
            "proof": "verified",
            "issuer": IDP,
            "client_id": session.client,
            "audience": [url],
            "scope": [f"{server}:read", f"{server}:write"],
            "expires_at": instant(now + TOKEN_LIFE_US),
        },
        "links": links,
        "network": {"ip": address},
    }


def fleet(count, seed):
    """Events in the order of their time."""
    dice = random.Random(seed)
    live, now = [], FIRST_US
    for number in range(count):
        while len(live) < SESSIONS_LIVE:
            live.append(Session(dice))
        turn = dice.randrange(len(live))
        session = live[turn]
        now += dice.randrange(200, 4000)
        call = event(dice, session, now, number)
        yield call
        session.calls += 1
        session.calls_left -= 1
        if dice.random() < 0.5:
            session.open.append(call["id"])
        elif len(session.open) > 1:
            session.open.pop()
        if session.calls_left <= 0:
            live.pop(turn)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    encode = json.JSONEncoder(separators=(",", ":")).encode
    out = sys.stdout.write
    for call in fleet(int(sys.argv[1]), int(sys.argv[2])):
        out(encode(call))
        out("\n")


if __name__ == "__main__":
    main()
