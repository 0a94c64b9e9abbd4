//! Cerbos: audit entries of its file and Kafka back ends.
//!
//! Guarantees: one event per (input, action), in the order of the question; inputs and outputs are matched by position,
//! because resource ids repeat. Cerbos has two effects, so a step-up is a denied action for which a rule put out the member
//! that the mapping calls `cerbos.step_up`; an effect that is absent or masked is `unknown`, never a denial. Access entries, server
//! log lines and query plans are asides: a plan is a filter to be applied later, and lets nobody in; so are calls that asked
//! nothing. An entry of which Cerbos has kept no more than that it was too big is a rejection: something was decided there. What one record
//! multiplies into is bounded: [`DECISIONS_MAX`] decisions, [`REPEATED_BYTES_MAX`] bytes that they could repeat, and
//! [`COPIED_BYTES_MAX`] bytes of arguments and extra, beyond which these are left out under a flag.

use super::bounds::DECISIONS_MAX;
use super::mapped::{Extra, Filling, VERDICT_UNREAD, removed};
use super::opened::Opening;
use crate::encoding::{CERBOS_KIND, header};
use crate::json::{Kind, Tape, Value};
use crate::mapping::removed::{Gone, is_mask};
use crate::mapping::{Mappings, Roots, Slot};
use crate::redact::{Redactor, Taken};
use crate::{Context, Format, Sink};
use catena_schemas::event::{Basis, Event, Outcome, Texts};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Bytes of arguments and extra that the decisions of one entry may hold together, besides the entry's own length.
pub(crate) const COPIED_BYTES_MAX: usize = 16 << 20;
/// What stands around an action is looked through for it, and may be repeated with it as a field, up to this much in all: 10,000
/// actions on an input and output of 52 kB. Beyond it an entry of the size of one record would be searched for minutes.
const REPEATED_BYTES_MAX: usize = 512 << 20;
/// What an entry says of all its decisions is repeated with each up to this size; beyond it stands with the first.
pub(crate) const SHARED_BYTES_MAX: usize = 4096;

/// Whether the headers of a record say that Cerbos wrote it.
pub(crate) fn is_announced(context: &Context<'_>) -> bool {
    header(context, CERBOS_KIND).is_some()
}

/// Whether an object is an audit entry or a line of the server's log.
pub(crate) fn is_entry(root: Value<'_>) -> bool {
    let logger = root.get("log.logger").and_then(|v| v.as_str());
    logger.is_some_and(|l| l == "cerbos" || l.starts_with("cerbos."))
        || (root.get("callId").is_some()
            && ["checkResources", "planResources", "method", "inputs", "outputs", "oversized"]
                .iter()
                .any(|k| root.get(k).is_some()))
}

/// Rewrites an entry of an older release, whose file back end wrote every attribute as a text that holds JSON: each stands in
/// it as what it holds. `None` when there is none.
pub(crate) fn expand(root: Value<'_>, scratch: &mut Tape) -> Option<String> {
    let body = root.get("checkResources").unwrap_or(root);
    let inputs = body.get("inputs").into_iter().flat_map(|list| list.items());
    let sides = inputs.flat_map(|input| ["principal", "resource"].map(|side| input.get(side)).into_iter().flatten());
    let attributes = sides.filter_map(|side| side.get("attr")).flat_map(|attr| attr.entries());
    Opening::json(attributes.map(|attribute| attribute.1), &['{', '[', '"']).of(root, scratch)
}

/// The parts of an entry that its decisions share.
struct Entry<'t, 'b> {
    root: Value<'t>,
    /// As it came.
    bytes: &'b [u8],
    call: &'t str,
    /// What holds inputs, outputs and error: the entry itself in older releases.
    body: Value<'t>,
    inputs: Vec<Value<'t>>,
    outputs: Vec<Value<'t>>,
    error: Option<&'t str>,
    dirty: bool,
}

/// Reads one entry.
pub(crate) fn decode<'t>(
    (root, bytes): (Value<'t>, &[u8]),
    mappings: &'t Mappings,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
    sink: &mut impl Sink,
) -> Result<(), (&'static str, String)> {
    if root.kind() != Kind::Object {
        return Err(("not_an_object", format!("the record is {}", root.kind().as_str())));
    }
    let text = |v: Value<'t>, key: &str| v.get(key).and_then(|v| v.as_str());
    let kind = match header(context, CERBOS_KIND) {
        Some(kind) => std::str::from_utf8(kind).unwrap_or_default(),
        None => text(root, "log.kind").unwrap_or_default(),
    };
    let checks = root.get("checkResources").filter(|v| v.kind() == Kind::Object);
    let older = root.get("inputs").or_else(|| root.get("outputs")).map(|_| root);
    let aside = |reason, detail: String, sink: &mut dyn FnMut(catena_schemas::rows::Rejection)| {
        sink(redactor.aside(reason, detail, root, bytes))
    };
    let mut put = |a| sink.aside(a, Format::Cerbos);
    if let Some(plan) = root.get("planResources").filter(|v| v.kind() == Kind::Object) {
        let input = plan.get("input");
        let who = input.and_then(|i| i.get("principal")).and_then(|p| text(p, "id")).unwrap_or("?");
        let what = input.and_then(|i| i.get("resource")).and_then(|r| text(r, "kind")).unwrap_or("?");
        let filter = plan.get("output").and_then(|o| o.get("filter")).and_then(|f| text(f, "kind")).unwrap_or("?");
        aside("query_plan", format!("`{who}` on `{what}`: {filter}"), &mut put);
        return Ok(());
    }
    let is_access = kind == "access" || (root.get("callId").is_some() && root.get("method").is_some());
    // Protobuf JSON leaves out what is empty, so of a decision no more may be there than that it is one.
    let is_bare = root.get("callId").is_some() && root.get("checkResources").is_none_or(|v| v.is_null());
    let bare = (!is_access && is_bare && (kind == "decision" || is_oversized(root))).then_some(root);
    let Some(body) = checks.or(older).or(bare) else {
        if is_access {
            let code = root.get("statusCode").and_then(|v| v.as_scalar()).unwrap_or("0");
            aside("access_entry", format!("{} answered {code}", text(root, "method").unwrap_or("?")), &mut put);
            return Ok(());
        }
        // A line of the server's log is no entry: it has no kind, no call, and none of an entry's parts.
        const OF_ENTRIES: &[&str] = &["callId", "log.kind", "checkResources", "planResources", "inputs", "outputs"];
        let is_entry = OF_ENTRIES.iter().any(|key| root.get(key).is_some_and(|v| !v.is_null()));
        if root.get("log.logger").is_some() && root.get("message").is_some() && !is_entry {
            aside("server_log", text(root, "message").unwrap_or_default().to_owned(), &mut put);
            return Ok(());
        }
        return Err((
            "entry_unknown",
            "the record is neither a decision nor an access entry nor a line of the server's log".into(),
        ));
    };
    let Some(call) = text(root, "callId").filter(|s| !s.is_empty()) else {
        return Err(("call_id_missing", "`callId` is required".into()));
    };
    let items = |key: &str| body.get(key).map(|v| v.items().collect::<Vec<_>>()).unwrap_or_default();
    let entry = Entry {
        root,
        bytes,
        call,
        body,
        inputs: items("inputs"),
        outputs: items("outputs"),
        error: [body, root].into_iter().find_map(|v| text(v, "error").filter(|s| !s.is_empty())),
        dirty: redactor.suspects_record(root),
    };
    entry.decisions(mappings, redactor, taken, context, sink)
}

/// One question: an action on an input, with its answer.
struct Question<'t> {
    input: Option<Value<'t>>,
    output: Option<Value<'t>>,
    action: &'t str,
    answer: Option<Value<'t>>,
    /// All actions asked about this input.
    asked: Rc<HashSet<&'t str>>,
}

impl<'t> Entry<'t, '_> {
    fn decisions(
        &self,
        mappings: &'t Mappings,
        redactor: &Redactor,
        taken: &mut Taken,
        context: &Context<'t>,
        sink: &mut impl Sink,
    ) -> Result<(), (&'static str, String)> {
        let questions = self.questions()?;
        if questions.is_empty() {
            if is_oversized(self.root) {
                return Err(("entry_oversized", format!("call `{}`", redactor.text(self.call))));
            }
            sink.aside(redactor.aside("actions_none", self.call.to_owned(), self.root, self.bytes), Format::Cerbos);
            return Ok(());
        }
        let repeated = self.repeated(&questions);
        if repeated > REPEATED_BYTES_MAX {
            return Err(("decisions_too_large", format!("{repeated} bytes around {} decisions", questions.len())));
        }
        let shared = self.shared(redactor, taken);
        let mut budget = COPIED_BYTES_MAX + self.root.source().len();
        // Read once, so that a bad time refuses the whole entry before any of its decisions is out.
        if let Some(v) = self.root.get("timestamp").filter(|v| !v.is_null())
            && super::catena::instant(v).is_none()
        {
            return Err(("time_invalid", format!("`timestamp` is {}", v.to_json())));
        }
        let count = questions.len() as u32;
        let (mut unknown, mut unknowns) = (None, 0);
        for (index, question) in questions.iter().enumerate() {
            let claims = question.input.and_then(claims);
            let roots = Roots { input: question.input, output: question.output, claims, ..Roots::record(self.root) };
            let Some(mapping) = mappings.choose(Format::Cerbos, &roots) else {
                unknown.get_or_insert(index);
                unknowns += 1;
                continue;
            };
            taken.clear();
            let mut fill = Filling {
                mapping,
                roots,
                redactor,
                dirty: self.dirty,
                taken,
                flags: Vec::new(),
                absent: None,
                quoted: true,
            };
            let mut e = Event::default();
            fill.time(&mut e, self.root.get("timestamp"), context)?;
            e.id = Cow::Owned(format!("{}/{index}", fill.clean(self.call)));
            e.source.kind = Some(Cow::Borrowed("cerbos"));
            e.source.record = Some(fill.clean(self.call));
            (e.source.decision_index, e.source.decision_count) = (index as u32, count);
            if !question.action.is_empty() {
                e.tool.action = Some(fill.clean(question.action));
            }
            self.decide(question, &mut fill, &mut e);
            fill.apply(&mut e);
            fill.drop();
            fill.finish(&mut e, context);
            let mut extra = Extra::new(redactor, self.dirty, fill.taken);
            question.input.into_iter().for_each(|v| extra.member("input", v));
            question.output.into_iter().for_each(|v| extra.member("output", v));
            let repeated = index == 0 || shared.len() <= SHARED_BYTES_MAX;
            e.extra = extra.finish_with(if repeated { &shared } else { "" });
            limit(&mut e, &mut budget);
            sink.event(&e, Format::Cerbos);
        }
        let Some(first) = unknown else { return Ok(()) };
        let detail = format!("no mapping's conditions hold for decision {first}");
        Err(("mapping_missing", if unknowns == 1 { detail } else { format!("{detail}; and {} more", unknowns - 1) }))
    }

    fn questions(&self) -> Result<Vec<Question<'t>>, (&'static str, String)> {
        let mut questions: Vec<Question<'t>> = Vec::new();
        for at in 0..self.inputs.len().max(self.outputs.len()) {
            let (input, output) = (self.inputs.get(at).copied(), self.outputs.get(at).copied());
            let answers: HashMap<&str, Value<'t>> =
                output.and_then(|o| o.get("actions")).map(|a| a.entries().collect()).unwrap_or_default();
            let mut asked: Vec<&str> = Vec::new();
            let mut known = HashSet::new();
            let listed = input.and_then(|i| i.get("actions"));
            asked.extend(listed.iter().flat_map(|l| l.items()).filter_map(|v| v.as_str()).filter(|a| known.insert(*a)));
            // Answers that nobody is on record to have asked for: an older entry, or one that was trimmed.
            let mut unasked: Vec<&str> = answers.keys().copied().filter(|a| known.insert(*a)).collect();
            unasked.sort_unstable();
            asked.extend(unasked);
            if asked.is_empty() && self.error.is_some() {
                asked.push("");
            }
            let known = Rc::new(known);
            for action in asked {
                let (answer, asked) = (answers.get(action).copied(), known.clone());
                questions.push(Question { input, output, action, answer, asked });
            }
            if questions.len() > DECISIONS_MAX {
                return Err(("decisions_too_many", format!("more than {DECISIONS_MAX} in one entry")));
            }
        }
        if questions.is_empty() && self.error.is_none() && !self.asks_nothing() {
            return Err(("decisions_missing", "the entry holds no action that can be read".into()));
        }
        if questions.is_empty() && self.error.is_some() {
            questions.push(Question { input: None, output: None, action: "", answer: None, asked: Rc::default() });
        }
        Ok(questions)
    }

    /// Whether there is nothing where actions would be, and not something that cannot be read.
    fn asks_nothing(&self) -> bool {
        let listed = |key: &str| self.body.get(key).is_none_or(|v| v.is_null() || v.kind() == Kind::Array);
        let nothing = |v: Value<'t>| match v.kind() {
            Kind::Null => true,
            Kind::Array | Kind::Object => v.items().next().is_none() && v.entries().next().is_none(),
            _ => false,
        };
        let mut pairs = self.inputs.iter().chain(&self.outputs);
        listed("inputs")
            && listed("outputs")
            && pairs.all(|v| v.kind() == Kind::Object && v.get("actions").is_none_or(nothing))
    }

    /// Bytes that stand around the decisions, once for each.
    fn repeated(&self, questions: &[Question<'t>]) -> usize {
        let size = |v: &Option<Value<'t>>| v.map_or(0, |v| v.source().len());
        let pairs: usize = self.inputs.iter().chain(&self.outputs).map(|v| v.source().len()).sum();
        let rest = self.root.source().len().saturating_sub(pairs);
        questions.iter().map(|q| size(&q.input) + size(&q.output) + rest).fold(0, usize::saturating_add)
    }

    /// What the entry says of all its decisions, as members of `extra` without braces, sorted.
    fn shared(&self, redactor: &Redactor, taken: &mut Taken) -> String {
        taken.clear();
        let mut extra = Extra::new(redactor, self.dirty, taken);
        let mut members: Vec<_> = self.root.entries().collect();
        members.sort_unstable_by_key(|m| m.0);
        let told = ["callId", "timestamp", "checkResources", "inputs", "outputs", "error", "log.logger", "log.kind"];
        members.into_iter().filter(|m| !told.contains(&m.0)).for_each(|(key, v)| extra.member(key, v));
        self.unread().into_iter().for_each(|(key, v)| extra.member(&key, v));
        if let Some(error) = self.error {
            extra.text("error", error);
        }
        extra.into_members()
    }

    /// What stands where an entry's parts are looked for and is none: members of a kind that is not promised, and unknown ones.
    fn unread(&self) -> Vec<(String, Value<'t>)> {
        let in_body = self.root.get("checkResources").is_some_and(|v| v.kind() == Kind::Object);
        let read = |key: &str, v: &Value<'t>| match key {
            "inputs" | "outputs" => v.kind() == Kind::Array,
            "error" => v.as_str().is_some(),
            "checkResources" => in_body,
            "callId" | "timestamp" | "log.logger" | "log.kind" => true,
            // What else stands beside the entry is in `extra` already.
            _ => false,
        };
        let told = ["inputs", "outputs", "error", "checkResources"];
        let of_root = self.root.entries().filter(|(key, v)| told.contains(key) && !v.is_null() && !read(key, v));
        let mut found: Vec<_> = of_root.map(|(key, v)| (key.to_owned(), v)).collect();
        if in_body {
            let of_body = self.body.entries().filter(|(key, v)| !v.is_null() && !read(key, v));
            found.extend(of_body.map(|(key, v)| (format!("checkResources.{key}"), v)));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Outcome, policy, reasons: what Cerbos answered.
    fn decide(&self, question: &Question<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
        let d = &mut e.decision;
        d.policy_engine = Some(Cow::Borrowed("cerbos"));
        if let Some(policy) = question.answer.and_then(|a| a.get("policy")).and_then(|p| p.as_str()) {
            match policy {
                "" => {}
                "NO_MATCH" => d.reasons.push(Cow::Borrowed("no_match")),
                policy => d.policy_id = Some(fill.clean(policy)),
            }
        }
        let effect = question.answer.and_then(|a| a.get("effect")).and_then(|v| v.as_str());
        d.basis = Some(Basis::Explicit);
        d.outcome = match (self.error, effect) {
            (Some(_), _) => Outcome::Error,
            (None, Some("EFFECT_ALLOW")) => Outcome::Allow,
            (None, Some("EFFECT_DENY")) => Outcome::Deny,
            (None, Some("EFFECT_NO_MATCH")) => {
                if !d.reasons.iter().any(|r| r == "no_match") {
                    d.reasons.push(Cow::Borrowed("no_match"));
                }
                Outcome::Deny
            }
            (None, Some(mark)) if is_mask(mark) => {
                removed(d, Gone::Masked);
                Outcome::Unknown
            }
            (None, other) => {
                d.basis = Some(Basis::Inferred);
                let given = question.answer.and_then(|a| a.get("effect")).is_some_and(|v| !v.is_null());
                d.reasons.push(Cow::Borrowed(if given { "effect_unknown" } else { "effect_missing" }));
                if other.is_some() || given {
                    fill.flag(VERDICT_UNREAD);
                }
                Outcome::Unknown
            }
        };
        if self.error.is_some() {
            d.reasons.push(Cow::Borrowed("check_error"));
        }
        let Some(output) = question.output else { return };
        self.rule_outputs(output, question, fill, e);
        for role in texts(output.get("effectiveDerivedRoles"), fill, "derived_roles") {
            e.decision.rules.push(Cow::Owned(format!("derived_role:{}", fill.clean(role))));
        }
        take_answers(output, question.answer, self.error.is_none(), fill.taken);
        // Ids repeat the input's, unless that was left out.
        let resource = question.input.and_then(|i| i.get("resource")).and_then(|r| r.get("id"));
        let request = question.input.and_then(|i| i.get("requestId"));
        for (key, asked) in [("requestId", request), ("resourceId", resource)] {
            let repeats = |v: &Value<'t>| asked.and_then(|a| a.as_str()).is_some_and(|a| v.as_str() == Some(a));
            output.get(key).filter(repeats).into_iter().for_each(|v| fill.taken.insert(v));
        }
        texts(question.input.and_then(|i| i.get("actions")), fill, "actions");
    }

    /// What rules put out for this action: a step-up, reasons, obligations.
    fn rule_outputs(&self, output: Value<'t>, question: &Question<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
        let (mut obligations, mut challenge): (Vec<Value<'t>>, Option<Value<'t>>) = (Vec::new(), None);
        let (mut rules, mut reasons): (Texts<'t>, Texts<'t>) = (Vec::new(), Vec::new());
        for item in output.get("outputs").iter().flat_map(|o| o.items()) {
            // Releases before 0.45 do not say which action an output is for.
            let named = item.get("action").and_then(|a| a.as_str()).filter(|a| !a.is_empty());
            let ours = match named {
                Some(action) => action == question.action,
                None => question.asked.len() == 1,
            };
            if !ours {
                // That of another action is told with it; what is nobody's stays.
                if named.is_some_and(|action| question.asked.contains(action)) {
                    fill.taken.insert(item);
                }
                continue;
            }
            take_told(item, fill.taken);
            if let Some(src) = item.get("src").and_then(|s| s.as_str()) {
                rules.push(fill.clean(src));
            }
            let Some(val) = item.get("val").filter(|v| !v.is_null()) else { continue };
            fill.roots.val = Some(val);
            let stepping = fill.value(Slot::StepUp).is_some() && matches!(e.decision.outcome, Outcome::Deny);
            if let Some(reason) = val.as_str().map(|s| fill.clean(s)).or_else(|| fill.said(Slot::Reason)) {
                reasons.push(if stepping { Cow::Owned(format!("step_up:{reason}")) } else { reason });
            }
            if stepping {
                challenge = Some(val);
            } else {
                obligations.push(val);
            }
        }
        fill.roots.val = None;
        if let Some(val) = challenge {
            e.decision.outcome = Outcome::StepUp;
            let mut out = String::new();
            fill.redactor.write(val, fill.manner(), false, &mut out);
            // Of the column an object is promised; another value says the reason, and is an obligation as it stands.
            match val.kind() {
                Kind::Object => e.decision.challenge = Some(Cow::Owned(out)),
                _ => obligations.push(val),
            }
        }
        if !obligations.is_empty() {
            let mut out = String::from("[");
            for (i, val) in obligations.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                fill.redactor.write(val, fill.manner(), false, &mut out);
            }
            e.decision.obligations = Some(Cow::Owned(out + "]"));
        }
        e.decision.rules.extend(rules);
        e.decision.reasons.extend(reasons);
    }
}

/// The texts of a list, which are then used; what else is in it stays, under a flag.
fn texts<'t>(list: Option<Value<'t>>, fill: &mut Filling<'t, '_>, name: &str) -> Vec<&'t str> {
    let Some(list) = list.filter(|v| !v.is_null()) else { return Vec::new() };
    let found: Vec<(Value<'t>, &'t str)> = list.items().filter_map(|v| Some((v, v.as_str()?))).collect();
    if list.kind() != Kind::Array || found.len() != list.items().count() {
        fill.flag(format!("invalid:{name}"));
        found.iter().for_each(|(v, _)| fill.taken.insert(*v));
    } else {
        fill.taken.insert(list);
    }
    found.into_iter().map(|(_, s)| s).collect()
}

/// Whether Cerbos has left out parts of an entry that was too big.
fn is_oversized(root: Value<'_>) -> bool {
    root.get("oversized").and_then(|v| v.as_bool()) == Some(true)
}

/// The claims of the token that came with a question. Of several, those that say who acts, and then those whose name is first:
/// their order changes from entry to entry, and pieces of two tokens are never put together.
fn claims(input: Value<'_>) -> Option<Value<'_>> {
    let data = input.get("auxData")?;
    if let Some(only) = data.get("jwt").filter(|v| v.kind() == Kind::Object) {
        return Some(only);
    }
    let tokens = data.get("jwts")?.entries().filter_map(|(name, token)| Some((name, token.get("claims")?)));
    tokens.min_by_key(|(name, claims)| (claims.get("act").is_none_or(|v| v.is_null()), *name)).map(|token| token.1)
}

/// Marks the answers of an output: those to other actions belong to their events, and of this one the policy and, where it
/// `decided`, a known effect have a column. Its scope has none, and stays.
fn take_answers(output: Value<'_>, answer: Option<Value<'_>>, decided: bool, taken: &mut Taken) {
    let Some(answers) = output.get("actions") else { return };
    let told = |(key, v): &(&str, Value<'_>)| match *key {
        "effect" => decided && matches!(v.as_str(), Some("EFFECT_ALLOW" | "EFFECT_DENY" | "EFFECT_NO_MATCH")),
        "policy" => v.as_str().is_some(),
        _ => false,
    };
    let Some(answer) = answer.filter(|a| a.kind() != Kind::Object || a.entries().any(|m| !told(&m))) else {
        return taken.insert(answers);
    };
    answer.entries().filter(told).for_each(|(_, v)| taken.insert(v));
    answers.entries().filter(|(_, v)| v.index() != answer.index()).for_each(|(_, v)| taken.insert(v));
}

/// Marks what is told of something that a rule put out; other members, like the error of an output, stay.
fn take_told(item: Value<'_>, taken: &mut Taken) {
    let told = |(key, v): &(&str, Value<'_>)| match *key {
        "val" => true,
        "src" | "action" => v.as_str().is_some(),
        _ => false,
    };
    if item.kind() == Kind::Object && item.entries().all(|member| told(&member)) {
        return taken.insert(item);
    }
    item.entries().filter(told).for_each(|(_, v)| taken.insert(v));
}

/// Leaves out arguments and extra once the entry has been copied often enough.
pub(crate) fn limit(e: &mut Event<'_>, budget: &mut usize) {
    for (field, flag) in [
        (&mut e.call.params, "cut:params"),
        (&mut e.extra, "cut:extra"),
        (&mut e.decision.obligations, "cut:obligations"),
    ] {
        let size = field.as_ref().map_or(0, |s| s.len());
        if size > *budget {
            *field = None;
            e.flags.push(Cow::Borrowed(flag));
        } else {
            *budget -= size;
        }
    }
}
