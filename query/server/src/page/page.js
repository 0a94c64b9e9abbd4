"use strict";
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
  $("tree").textContent = await ask(`/api/v1/chains/${encodeURIComponent(id)}?format=text`, "text");
  $("tree").hidden = false;
}

function opener(chain) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = chain.chain_id;
  button.addEventListener("click", () => show(chain.chain_id).catch(trouble));
  return button;
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
  const chains = await ask("/api/v1/chains?limit=20");
  fill($("chains"), ["chain", "requester", "events", "outcomes", "depth", "ended"], chains.data.map((c) => ({
    chain: opener(c), requester: c.requesters.join(", "), events: c.events, depth: c.depth, ended: c.ended,
    outcomes: Object.entries(c.by_outcome).map(([o, n]) => `${n} ${o}`).join(", "),
  })));
  const recent = await sql("SELECT time, outcome, requester, agent, coalesce(server_name, server) AS server, tool, reasons, format FROM decisions ORDER BY time DESC LIMIT 30");
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
  $("version").textContent = "asking …";
  refresh().then(() => { $("access").hidden = true; }, trouble);
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
