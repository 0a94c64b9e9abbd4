"""Records framed by the serializers of Confluent's client, with their schemas in an Apicurio Registry that goes away and comes back.

Avro with a reference to another schema and a second version of the first, JSON, and protobuf with an import: once with its text in the
registry, as most clients put it there, and once with the descriptor that the client for Python registers instead. The schemas are the
producer's; what they describe are native events.
"""

import json
import random
import signal
import subprocess

from badinput import ROOT, Broker, Served, free_port

from . import fleet
from .stage import HOME, Process, ask, holds, outcomes, wait

KINDS = ("avro", "json", "protobuf", "descriptor")
CALLS = 90  # of each kind
ACTOR = {"type": "record", "name": "Actor", "namespace": "corp.gate", "fields": [{"name": "id", "type": "string"}, {"name": "kind", "type": ["null", "string"], "default": None}]}


def avro(version):
    """The second version knows one member more."""
    record = lambda name, *fields: {"type": "record", "name": name, "fields": [{"name": f, "type": t} for f, t in fields]}
    verdict = {"type": "enum", "name": "Word", "symbols": ["allow", "deny", "step_up"]}
    params = record("Params", ("note", "string"), ("amount", "double"), ("n", ["null", "long"]))
    fields = [
        ("id", "string"), ("time", {"type": "long", "logicalType": "timestamp-micros"}),
        ("decision", record("Decision", ("verdict", verdict), ("reasons", {"type": "array", "items": "string"}))),
        ("requester", record("Requester", ("id", "string"))), ("actors", {"type": "array", "items": "corp.gate.Actor"}),
        ("session", ["null", record("Session", ("id", "string"))]), ("server", record("Server", ("name", "string"))), ("tool", record("Tool", ("name", "string"))),
        ("call", record("Call", ("params", params))), ("links", {"type": "map", "values": "string"}),
    ]
    made = record("Event", *fields)
    made["namespace"] = "corp.gate"
    if version == 2:
        made["fields"].append({"name": "region", "type": ["null", "string"], "default": None})
    return json.dumps(made)


JSON_SCHEMA = json.dumps({
    "$schema": "http://json-schema.org/draft-07/schema#", "title": "Event", "type": "object", "required": ["id", "decision"],
    "properties": {"id": {"type": "string"}, "decision": {"type": "object", "properties": {"verdict": {"enum": ["allow", "deny", "step_up"]}}}},
})


ACTOR_PROTO = 'syntax = "proto3"; package corp.gate; message Actor { string id = 1; string kind = 2; }'
EVENT_PROTO = """syntax = "proto3";
package corp.gate;
import "corp/actor.proto";
import "google/protobuf/timestamp.proto";
message Nothing { int64 at = 1; }
message Event {
  string id = 1; google.protobuf.Timestamp time = 2; Decision decision = 3; Requester requester = 4; repeated Actor actors = 5;
  Session session = 6; Server server = 7; Tool tool = 8; Call call = 9; Links links = 10;
}
message Decision { string verdict = 1; repeated string reasons = 2; }
message Requester { string id = 1; }
message Session { string id = 1; }
message Server { string name = 1; }
message Tool { string name = 1; }
message Params { string note = 1; double amount = 2; int64 n = 3; }
message Call { Params params = 1; }
message Links { string trace = 1; }
"""


def protobuf():
    """The class of the event, which stands second in its file and refers to another file and to one that everybody knows."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    kinds = descriptor_pb2.FieldDescriptorProto
    pool = descriptor_pool.DescriptorPool()

    def file(name, imports, messages):
        made = descriptor_pb2.FileDescriptorProto(name=name, package="corp.gate", syntax="proto3", dependency=imports)
        for message, fields in messages.items():
            added = made.message_type.add(name=message)
            for number, (field, kind) in enumerate(fields.items(), 1):
                repeated, kind = kind.startswith("*"), kind.lstrip("*")
                one = added.field.add(name=field, number=number, label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL)
                if kind.startswith("."):
                    one.type, one.type_name = kinds.TYPE_MESSAGE, kind
                else:
                    one.type = getattr(kinds, f"TYPE_{kind.upper()}")
        return pool.Add(made)

    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    file("corp/actor.proto", [], {"Actor": {"id": "string", "kind": "string"}})
    named = {name: {"id" if name in ("Requester", "Session") else "name": "string"} for name in ("Requester", "Session", "Server", "Tool")}
    file("corp/event.proto", ["corp/actor.proto", "google/protobuf/timestamp.proto"], {
        "Nothing": {"at": "int64"},
        "Event": {
            "id": "string", "time": ".google.protobuf.Timestamp", "decision": ".corp.gate.Decision", "requester": ".corp.gate.Requester", "actors": "*.corp.gate.Actor",
            "session": ".corp.gate.Session", "server": ".corp.gate.Server", "tool": ".corp.gate.Tool", "call": ".corp.gate.Call", "links": ".corp.gate.Links",
        },
        "Decision": {"verdict": "string", "reasons": "*string"},
        **named,
        "Params": {"note": "string", "amount": "double", "n": "int64"},
        "Call": {"params": ".corp.gate.Params"},
        "Links": {"trace": "string"},
    })
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("corp.gate.Event"))


def event(policy, call, kind, at_us):
    """A call as a native event."""
    return {
        "id": f"{kind}-{call.id}", "time": at_us, "decision": {"verdict": policy.verdict(call), "reasons": policy.refusals(call) or policy.wants(call)}, "requester": {"id": call.user},
        "actors": [{"id": agent, "kind": "agent"} for agent in call.chain], "session": {"id": call.session}, "server": {"name": call.server}, "tool": {"name": call.tool},
        "call": {"params": {**call.params, "amount": float(call.amount)}}, "links": {"trace": call.trace},
    }


class Framing:
    """Confluent's serializers against a registry."""

    def __init__(self, url):
        from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
        from confluent_kafka.schema_registry.avro import AvroSerializer
        from confluent_kafka.schema_registry.json_schema import JSONSerializer
        from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
        from confluent_kafka.serialization import MessageField, SerializationContext

        client = SchemaRegistryClient({"url": url})
        client.register_schema("actor", Schema(json.dumps(ACTOR), "AVRO"))
        refers = [SchemaReference("corp.gate.Actor", "actor", 1)]
        self.message = protobuf()
        self.serializers = {("avro", v): AvroSerializer(client, Schema(avro(v), "AVRO", refers)) for v in (1, 2)}
        self.serializers["json", 1] = JSONSerializer(JSON_SCHEMA, client)
        names = {"reference.subject.name.strategy": lambda context, file: f"{context.topic}-{file.name}"}
        self.serializers["descriptor", 1] = ProtobufSerializer(self.message, client, names)

        def told(method):
            """The same with texts in place of descriptors, as the clients for other languages register them."""
            text = lambda schema: Schema(EVENT_PROTO if schema.references else ACTOR_PROTO, "PROTOBUF", schema.references)
            return lambda self, subject, schema, *more, **named: getattr(SchemaRegistryClient, method)(self, subject, text(schema), *more, **named)

        methods = ("register_schema", "register_schema_full_response", "lookup_schema")
        by_text = type("ByText", (SchemaRegistryClient,), {method: told(method) for method in methods})
        self.serializers["protobuf", 1] = ProtobufSerializer(self.message, by_text({"url": url}), names)
        self.context = lambda kind: SerializationContext(f"gate-{kind}", MessageField.VALUE)

    def frame(self, kind, made, version=1):
        from google.protobuf import json_format

        if kind in ("protobuf", "descriptor"):
            seconds, micros = divmod(made["time"], 1_000_000)
            message = self.message()
            message.time.seconds, message.time.nanos = seconds, micros * 1000
            made = json_format.ParseDict({k: v for k, v in made.items() if k != "time"}, message)
        elif version == 2:
            made = {**made, "region": "eu-1"}
        return self.serializers[kind, version](made, self.context(kind))


def apicurio(folder):
    """A registry to be started, and its address for clients of Confluent's interface."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    # In a file, so that it knows its schemas again when it comes back.
    surroundings = {"QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(port), "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{folder / 'registry'}"}
    jar = next((HOME / "registry").glob("apicurio-registry-app-*-runner.jar"))
    command = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", str(jar)]
    return Process("registry", folder, command, ready=f"{url}/subjects", env=surroundings), url


def run(folder, seed, _):
    from confluent_kafka import Producer

    dice = random.Random(f"registry {seed}")
    policy = fleet.Policy(dice)
    calls = {kind: fleet.calls(dice, CALLS) for kind in KINDS}
    at = 1_787_234_591_482_913
    registry, url = apicurio(folder)
    subprocess.run(["sh", str(ROOT / "tests" / "kafka" / "install.sh")], check=True, stdout=subprocess.DEVNULL)
    with Broker(folder / "kafka") as broker:
        for kind in KINDS:
            broker.create(f"gate-{kind}", partitions=2)
        producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 5})
        topics = [f'{{ name = "gate-{kind}", format = "catena", registry = "{url}" }}' for kind in KINDS]
        served = Served(folder, f'[flush]\nage_ms = 300\n[kafka]\nbrokers = "{broker.address}"\ntopics = [{", ".join(topics)}]\n')
        status = lambda: json.loads(served.get("/api/v1/status")[1] or b"{}").get("received", 0)

        def send(kind, values):
            for value in values:
                producer.produce(f"gate-{kind}", value=value)
            if producer.flush(60):
                raise SystemExit("registry: not all records were acknowledged")

        with registry:
            framing = Framing(url)
            framed = {kind: [framing.frame(kind, event(policy, call, kind, at), 2 if kind == "avro" and n >= CALLS // 2 else 1) for n, call in enumerate(calls[kind])] for kind in KINDS}
            with served:
                for kind in KINDS:
                    send(kind, framed[kind][: CALLS // 3])
                served.wait(lambda: status() >= len(KINDS) * (CALLS // 3), "record of each kind")
                # Gone: the second version of the Avro schema is not known yet, and what is in it has to wait.
                registry.process.send_signal(signal.SIGKILL)
                registry.process.wait()
                for kind in KINDS:
                    send(kind, framed[kind][CALLS // 3 :])
                served.wait(lambda: "a schema could not be had" in (folder / "serve.log").read_text(), "word about the registry")
                # The others, whose schemas are known, do not wait with it.
                served.wait(lambda: status() >= (len(KINDS) - 1) * CALLS + CALLS // 3, "record of a schema that is known")
                with registry:
                    send("avro", [b"\0\0\x0f\x42\x3f" + framed["avro"][0][5:], framed["avro"][0][:-20]])  # a number that it does not know; cut off
                    send("json", [json.dumps(event(policy, calls["json"][0], "plain", at)).encode()])  # not framed at all
                    total = len(KINDS) * CALLS + 3
                    wait(lambda: status() >= total, "record behind")
                    served.stop()
    lake = folder / "lake"
    when = "2026-08-20T14:03:11.482913Z"
    row = lambda kind, call: (policy.verdict(call), call.user, tuple(call.chain), call.session, call.server, call.tool, call.trace, when, call.params["note"], call.number, f"{kind}-{call.id}", "eu-1" if kind == "avro" and call.number >= CALLS // 2 else None)
    wanted = [row(kind, call) for kind in KINDS for call in calls[kind]] + [row("plain", calls["json"][0])]
    found = []
    for r in ask(lake, "SELECT outcome, requester, actors, session, server_name, tool, trace_id, time, params, event_id, extra FROM decisions"):
        # What is 0 or empty is not in a message of protobuf: the first call may have no arguments at all. Numbers of 64 bits are texts.
        params, extra = json.loads(r["params"] or "{}"), json.loads(r["extra"] or "{}")
        found.append((r["outcome"], r["requester"], tuple(r["actors"]), r["session"], r["server_name"], r["tool"], r["trace_id"], r["time"], params.get("note", ""), int(params.get("n", 0)), r["event_id"], extra.get("region")))
    holds("registry", wanted, found)
    rejects = ask(lake, "SELECT reason, count(*) AS n FROM rejects GROUP BY reason ORDER BY reason")
    if rejects != [{"reason": "avro_malformed", "n": 1}, {"reason": "schema_unknown", "n": 1}]:
        raise SystemExit(f"registry: rejected are {rejects}")
    return f"{CALLS} records each of {', '.join(KINDS)}, one without a frame: {outcomes(wanted)}; one of an unknown schema and one cut off rejected; the registry was gone once"
