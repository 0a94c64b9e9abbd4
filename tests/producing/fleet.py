"""A policy and calls that are put to it, both drawn from a seed; and what must become of each call, worked out here.

Every producer is given the same policy in its own language. What it logs is held against [`Policy.verdict`], never against another log.
"""

import copy
import uuid

TOOLS = {
    "web_search": ("search", "read"),
    "create_issue": ("tracker", "write"),
    "merge_change": ("tracker", "write"),
    "read_file": ("files", "read"),
    "delete_file": ("files", "delete"),
    "get_contact": ("crm", "read"),
    "export_contacts": ("crm", "export"),
    "refund": ("payments", "pay"),
    "transfer": ("payments", "pay"),
    "query": ("warehouse", "read"),
}
KINDS = ("planner", "coder", "finance", "analyst")
RISKY = ("delete", "export", "pay")
USERS = [f"user{n}@corp.example" for n in range(6)] + ["user-ü@corp.example", "用户@corp.example", "o'user@corp.example"]
NOTES = ["plain", 'a "quoted" \\ one', "tab\there\nand a line", "日本語 🙂", "\u202eturned", "x" * 3000, "=1+1", ""]
AUDIENCE = "https://tools.corp.example"
ISSUER = "https://login.corp.example"


class Policy:
    """Who may do what. Another seed is another policy."""

    def __init__(self, dice):
        self.version = f"p{dice.randrange(10**6)}"
        self.grants = {kind: sorted(dice.sample(list(TOOLS), dice.randint(5, 8))) for kind in KINDS}
        self.suspended = sorted(dice.sample(USERS, 2))
        self.depth_max = dice.choice([2, 3])
        self.amount_max = dice.choice([100, 250, 500])

    def document(self):
        return dict(vars(self), risky=list(RISKY))

    def refusals(self, call):
        """Why a call is refused for good."""
        found = []
        if call.user in self.suspended:
            found.append("user_suspended")
        if len(call.chain) > self.depth_max:
            found.append("chain_too_long")
        if call.tool not in self.grants[call.kind]:
            found.append("tool_not_granted")
        if call.scope not in call.scopes:
            found.append("scope_missing")
        return found

    def wants(self, call):
        """What a call lacks that its user could still give."""
        found = []
        if call.action in RISKY and call.acr != "mfa":
            found.append("mfa")
        if call.amount > self.amount_max and not call.approved:
            found.append("approval")
        return found

    def verdict(self, call):
        return "deny" if self.refusals(call) else "step_up" if self.wants(call) else "allow"


class Call:
    """One call of a tool by an agent, at the end of a chain of agents, for a user."""

    def __init__(self, dice, number, session):
        self.number = number
        self.user, self.session, self.kind = session["user"], session["id"], session["kind"]
        depth = dice.choices([1, 2, 3, 4], [50, 30, 15, 5])[0]
        self.chain = [session["root"]] + [f"agent:sub{n}-{dice.randrange(5)}" for n in range(depth - 1)]
        every = sorted({f"{server}:{action}" for server, action in TOOLS.values()})
        self.scopes = [s for s in every if dice.random() > 0.08]
        self.acr = dice.choice(["mfa", "mfa", "pwd"])
        self.draw_tool(dice)
        self.id = f"call-{number:05}"
        self.trace = f"{dice.getrandbits(128) | 1:032x}"
        self.traceparent = f"00-{self.trace}-{dice.getrandbits(64) | 1:016x}-01"

    def draw_tool(self, dice):
        self.tool = dice.choice(list(TOOLS))
        self.server, self.action = TOOLS[self.tool]
        self.scope = f"{self.server}:{self.action}"
        self.amount = dice.choice([10, 99.5, 100, 250.01, 9000]) if self.action == "pay" else 0
        self.approved = dice.random() < 0.3
        self.params = {"note": dice.choice(NOTES), "amount": self.amount, "n": self.number}

    def other(self, dice):
        """A call of another tool in the same breath."""
        made = copy.copy(self)
        made.draw_tool(dice)
        return made

    @property
    def agent(self):
        return self.chain[-1]

    def act(self):
        """The chain as a token says it: the last one outermost."""
        claim = None
        for agent in self.chain:
            claim = {"sub": agent} if claim is None else {"sub": agent, "act": claim}
        return claim

    def claims(self):
        return {
            "iss": ISSUER, "aud": AUDIENCE, "sub": self.user, "sid": self.session, "act": self.act(),
            "scope": " ".join(self.scopes), "acr": self.acr, "jti": f"token-{self.number}",
        }


def calls(dice, how_many):
    """Calls of a couple of dozen sessions."""
    sessions = []
    for n in range(24):
        kind = dice.choice(KINDS)
        sessions.append({"id": str(uuid.UUID(int=dice.getrandbits(128), version=4)), "user": dice.choice(USERS), "kind": kind, "root": f"agent:{kind}-{n % 4}"})
    return [Call(dice, n, dice.choice(sessions)) for n in range(how_many)]
