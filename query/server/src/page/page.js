"use strict";
// Answers have the types of schemas/src/answer.rs.
// Everything that comes from a record goes through textContent: nothing in it can become markup.
const $ = (id) => document.getElementById(id);
let key = "";

async function ask(path, as = "json") {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { headers });
  if (response.status === 401) $("access").hidden = false;
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail || `the service answered ${response.status}`);
  }
  return as === "text" ? response.text() : response.json();
}

const sql = (query) => ask(`/api/v1/sql?q=${encodeURIComponent(query)}`);

function cell(value, name) {
  const td = document.createElement("td");
  if (value instanceof Node) td.append(value);
  else td.textContent = value == null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  if (typeof value === "number") td.className = "number";
  if (name === "outcome") td.className = String(value);
  td.title = td.textContent;
  return td;
}

function fill(table, columns, rows) {
  const head = document.createElement("tr");
  for (const name of columns) {
    const th = document.createElement("th");
    th.scope = "col";
    th.textContent = name.replaceAll("_", " ");
    head.append(th);
  }
  table.replaceChildren(head);
  for (const row of rows) {
    const tr = document.createElement("tr");
    for (const name of columns) tr.append(cell(row[name], name));
    table.append(tr);
  }
  if (rows.length === 0) {
    const td = cell("nothing yet");
    td.colSpan = columns.length || 1;
    const tr = document.createElement("tr");
    tr.append(td);
    table.append(tr);
  }
}

async function show(id) {
  const path = `/api/v1/chains/${encodeURIComponent(id)}`;
  const [tree, picture] = await Promise.all([ask(`${path}?format=text`, "text"), ask(`${path}?format=svg`, "text")]);
  $("tree").textContent = tree;
  // As an image a picture can neither run anything nor load anything.
  URL.revokeObjectURL($("picture").src);
  $("picture").src = URL.createObjectURL(new Blob([picture], { type: "image/svg+xml" }));
  $("picture").alt = `chain ${id}, also shown as text below`;
  $("chain").hidden = false;
  $("chain").scrollIntoView({ block: "nearest" });
}

function said(value) {
  if (Array.isArray(value)) return value.map(said).filter(Boolean).join(", ");
  return value == null || typeof value === "object" ? "" : String(value);
}

/** Evidence in words, with its code and confidence. */
const evidence = (words, code, confidence) => `${words} (${code}, ${confidence.toFixed(2)})`;

async function explain(id) {
  const { data } = await ask(`/api/v1/decisions/${encodeURIComponent(id)}/why`);
  const { decision, event = {}, chain = {}, grants, executions } = data[0];
  const hop = (h, at) => {
    const parts = at === 0 ? [] : [evidence(h.evidence, h.tier, h.confidence)];
    const beyond = h.authority?.widened_by;
    if (beyond) parts.push(`WIDENED by ${Object.values(beyond).map(said).join(", ")}`);
    return [h.id ?? "(unknown requester)", ...parts].join(", ");
  };
  const bound = {
    in: "yes: the call is within what was delegated", out: "NO: the call is OUTSIDE what was delegated",
    unknown: "unknown: too little is recorded to say",
  };
  const parts = {
    decision: said([decision.event_id, decision.time, decision.source]),
    call: said([decision.target_server, decision.tool, decision.action]),
    verdict: said([decision.outcome, decision.enforced, decision.basis]),
    reasons: said(decision.reasons),
    policy: said([decision.policy_engine, decision.policy_id, decision.policy_version, decision.policy_rules]),
    "on behalf of": (event.path || []).map(hop).join(" → "),
    "within grant?": bound[event.bound_state] || "",
    grant: grants.map((g) => `${said(g.grant_id)} from ${said(g.grantor)} to ${said(g.grantee)}: ${said(g.scope)}`).join("; ") || said(decision.grant_id),
    position: said(event.standing),
    "caused by": event.parent_event ? said([event.parent_event, evidence(event.parent_evidence, event.parent_tier, event.confidence)]) : "",
    anomalies: said(event.marks),
    observed: executions.map((x) => said([x.time, x.http_status && `HTTP ${x.http_status}`, x.jsonrpc_error && `JSON-RPC error ${x.jsonrpc_error}`,
      x.reasons, x.result_bytes && `${x.result_bytes} bytes`, x.user_agent])).join("; "),
    chain: said([chain.chain_id, chain.lineage, chain.state]),
    "stored at": said([decision.topic, `partition ${decision.partition}`, `offset ${decision.offset}`]),
  };
  $("why").replaceChildren(...Object.entries(parts).filter(([, text]) => text).map(([name, text]) => {
    const [div, dt, dd] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    dt.textContent = name;
    if (name === "chain") dd.append(button(text, () => show(chain.chain_id)));
    else dd.textContent = text;
    div.append(dt, dd);
    return div;
  }));
  $("why").hidden = false;
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "link";
  made.textContent = text;
  made.addEventListener("click", () => act().catch(trouble));
  return made;
}

async function listChains() {
  const wanted = new URLSearchParams([["limit", "20"]]);
  for (const [name, value] of new FormData($("filter"))) if (value.trim()) wanted.set(name, value.trim());
  const chains = await ask(`/api/v1/chains?${wanted}`);
  $("found").textContent = `${chains.data.length} of ${chains.meta.total}`;
  fill($("chains"), ["chain", "ended", "requester", "agents", "tools", "denied", "widened", "calls", "lineage", "confidence", "state"], chains.data.map((c) => ({
    chain: button(c.chain_id, () => show(c.chain_id)), ended: c.ended, requester: c.requesters.join(", "), agents: c.agents.join(", "), tools: c.tools.join(", "),
    denied: c.denied, widened: c.widened, calls: c.events, lineage: c.lineage, confidence: c.confidence, state: c.state,
  })));
}

async function listSources() {
  $("counted").textContent = "counting …";
  const { data, meta } = await ask("/api/v1/sources").catch((error) => {
    $("counted").textContent = error.message;
    throw error;
  });
  fill($("sources"), ["source", "format", "received", "decisions", "executions", "authority", "duplicates", "rejected", "set_aside", "last_seen"],
    data.sources.map((s) => ({ ...s, source: button(s.topic, async () => fields(s)), set_aside: s.asides, last_seen: s.last_seen?.replace(/\.\d+/, "") })));
  const gaps = data.sequences.filter((s) => s.missing > 0);
  $("missing").textContent = data.sequences.length === 0 ? "No source numbers its records, so missing records cannot be detected."
    : gaps.length === 0 ? "No sequence number is missing." : "Missing sequence numbers:";
  $("gaps").hidden = gaps.length === 0;
  fill($("gaps"), ["source", "epoch", "first", "last", "missing"], gaps);
  $("source").hidden = true;
  $("completeness").hidden = false;
  $("counted").textContent = `version ${meta.lake_version ?? "none"} of the lake; select a source to see its fields`;
}

/** Shows how many decisions of a source fill each field. Denials are separate, because producers record less of what they refuse. */
function fields(source) {
  const counts = (of) => Object.entries(of).map(([name, n]) => `${n} ${name}`).join(", ");
  const share = (part) => part == null ? "-" : `${Math.round(part * 100)} %`;
  $("source-title").textContent = `${source.topic} (${source.format})`;
  $("source-counts").textContent = [
    counts(source.by_outcome) && `Outcomes: ${counts(source.by_outcome)}.`,
    counts(source.by_reason) && `Rejected: ${counts(source.by_reason)}.`,
    `First seen ${source.first_seen ?? "never"}.`,
  ].filter(Boolean).join(" ");
  fill($("filled"), ["field", "allow", "deny", "other"], Object.entries(source.filled).map(([field, by]) => (
    { field, allow: share(by.allow), deny: share(by.deny), other: share(by.other) })));
  $("source").hidden = false;
  $("source").scrollIntoView({ block: "nearest" });
}

function trouble(error) {
  $("trouble").textContent = error.message;
  $("trouble").hidden = false;
}

async function refresh() {
  const status = await ask("/api/v1/status");
  const figures = {
    decisions: status.decisions, ...status.by_outcome, duplicates: status.duplicates,
    rejected: status.rejected, asides: status.asides,
  };
  $("totals").replaceChildren(...Object.entries(figures).map(([name, n]) => {
    const [div, dt, dd] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    dt.textContent = name.replaceAll("_", " ");
    dd.textContent = Number(n).toLocaleString();
    dd.className = name;
    div.append(dt, dd);
    return div;
  }));
  const at = status.lake_version == null ? "an empty lake" : `version ${status.lake_version} of the lake`;
  if ($("version").textContent === `${status.version}, ${at}`) return;
  await listChains();
  const recent = await sql("SELECT event_id AS why, time, outcome, requester, agent, coalesce(server, server_name) AS server, tool, reasons, format FROM decisions ORDER BY time DESC LIMIT 30");
  for (const row of recent.data) row.why = button("why", explain.bind(null, row.why));
  fill($("recent"), recent.meta.columns.map((c) => c.name), recent.data);
  const rejects = await sql("SELECT ingest_time, format, reason, detail, topic, partition, \"offset\" FROM rejects ORDER BY ingest_time DESC LIMIT 20");
  fill($("rejects"), rejects.meta.columns.map((c) => c.name), rejects.data);
  $("version").textContent = `${status.version}, ${at}`;
  $("trouble").hidden = true;
}

async function loop() {
  await refresh().catch(trouble);
  setTimeout(loop, 3000);
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("version").textContent = "loading …";
  refresh().then(() => { $("access").hidden = true; }, trouble);
});

$("count").addEventListener("click", () => listSources().catch(trouble));

$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  listChains().catch(trouble);
});

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("answer-note").textContent = "running …";
  try {
    const { data, meta } = await sql($("query").value);
    fill($("answer"), meta.columns.map((c) => c.name), data);
    $("answer-note").textContent = `${meta.rows} rows in ${meta.took_ms} ms${meta.cut ? `, cut at the limit of ${meta.cut}` : ""}`;
  } catch (error) {
    $("answer-note").textContent = error.message;
  }
});

loop();
