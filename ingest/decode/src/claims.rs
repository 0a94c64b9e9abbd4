//! What a token's claims say: who acts for whom, and under which terms.
//!
//! Guarantee: nested `act` claims (RFC 8693, section 4.1: the outermost is the current actor, each one inside it an earlier
//! one) come out root first. Claims fill only what is still empty, so a mapping that points elsewhere wins. The token's id
//! is kept as a keyed digest under its issuer's name, never as it is; the ids of other tokens that claims name are redacted like
//! every `jti`.

use crate::json::{Kind, Value};
use crate::redact::{Redactor, Taken, pieces};
use catena_schemas::Micros;
use catena_schemas::event::{Actor, Text, Token};
use std::borrow::Cow;

/// The actors of an `act` claim, root first, with the values they were read from; `None` when it is no such claim.
pub(crate) fn actors(act: Value<'_>) -> Option<Vec<Acting<'_>>> {
    let mut actors = Vec::new();
    let mut level = Some(act);
    while let Some(claim) = level {
        if claim.kind() != Kind::Object {
            return None;
        }
        let id = claim.get("sub").or_else(|| claim.get("client_id"))?;
        actors.push(Acting {
            id: id.as_scalar().filter(|s| !s.is_empty())?,
            id_value: id,
            issuer: claim.get("iss").filter(|v| v.as_str().is_some()),
        });
        level = claim.get("act").filter(|v| !v.is_null());
    }
    actors.reverse();
    Some(actors)
}

/// One level of an `act` claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acting<'t> {
    pub(crate) id: &'t str,
    pub(crate) id_value: Value<'t>,
    pub(crate) issuer: Option<Value<'t>>,
}

impl<'t> Acting<'t> {
    pub(crate) fn actor(&self, text: &impl Fn(&'t str) -> Cow<'t, str>) -> Actor<'t> {
        Actor { id: text(self.id), issuer: self.issuer.and_then(|v| v.as_str()).map(text), ..Actor::default() }
    }
}

/// Fills a token from its claims.
pub(crate) fn fill<'t>(
    token: &mut Token<'t>,
    claims: Value<'t>,
    redactor: &Redactor,
    taken: &mut Taken,
    text: &impl Fn(&'t str) -> Cow<'t, str>,
) {
    let mut take = |v: Value<'t>| taken.insert(v);
    let (mut jti, mut client, mut azp) = (None, None, None);
    let put = |slot: &mut Text<'t>, v: Value<'t>| -> bool {
        let Some(s) = v.as_scalar().filter(|s| !s.is_empty()) else { return false };
        if slot.is_none() {
            *slot = Some(text(s));
        }
        true
    };
    for (name, v) in claims.entries() {
        let read = match name {
            "iss" => put(&mut token.issuer, v),
            "sub" => put(&mut token.subject, v),
            "acr" => put(&mut token.acr, v),
            "txn" => put(&mut token.txn, v),
            "client_id" => put(&mut client, v),
            "azp" => put(&mut azp, v),
            "aud" => list(&mut token.audience, v, None, text),
            "resource" => list(&mut token.resource, v, None, text),
            "scope" | "scp" => list(&mut token.scope, v, Some(" "), text),
            "iat" => time(&mut token.issued_at, v),
            "exp" => time(&mut token.expires_at, v),
            "auth_time" => time(&mut token.auth_time, v),
            "cnf" => {
                let thumbprint = ["jkt", "x5t#S256", "kid"].iter().find_map(|m| v.get(m));
                thumbprint.is_some_and(|t| put(&mut token.cnf, t))
            }
            "acti" => match v.as_scalar() {
                Some(s) => {
                    token.acti.get_or_insert_with(|| Cow::Owned(redactor.digest(s)));
                    true
                }
                None => false,
            },
            "jti" => {
                jti = v.as_scalar();
                jti.is_some()
            }
            _ => false,
        };
        if read {
            take(v);
        }
    }
    if token.client_id.is_none() {
        token.client_id = client.or(azp);
    }
    if let (None, Some(jti)) = (&token.reference, jti) {
        let issuer = claims.get("iss").and_then(|v| v.as_str()).unwrap_or_default();
        token.reference = Some(Cow::Owned(redactor.digest(&format!("{issuer} {jti}"))));
    }
}

fn list<'t>(
    into: &mut Vec<Cow<'t, str>>,
    v: Value<'t>,
    split: Option<&str>,
    text: &impl Fn(&'t str) -> Cow<'t, str>,
) -> bool {
    let filled = !into.is_empty();
    let mut push = |s: &'t str| {
        if !filled && !s.is_empty() {
            into.push(text(s));
        }
    };
    if let (Some(s), Some(split), false) = (v.as_str(), split, filled) {
        into.extend(pieces(text(s), &[split]));
        return true;
    }
    match (v.as_str(), v.kind()) {
        (Some(s), _) => push(s),
        (None, Kind::Array) if v.items().all(|i| i.as_str().is_some()) => {
            v.items().filter_map(|i| i.as_str()).for_each(push)
        }
        _ => return false,
    }
    true
}

fn time(slot: &mut Option<Micros>, v: Value<'_>) -> bool {
    let read = numeric_date(v);
    if slot.is_none() {
        *slot = read;
    }
    read.is_some()
}

/// RFC 7519 NumericDate, seconds with or without a fraction, as a number or as text; or RFC 3339, as Cerbos writes it.
pub(crate) fn numeric_date(v: Value<'_>) -> Option<Micros> {
    let written = v.as_scalar()?;
    if let Ok(seconds) = written.parse::<i64>() {
        return Micros::from_seconds(seconds);
    }
    if let Some(t) = Micros::parse_rfc3339(written) {
        return Some(t);
    }
    let seconds: f64 = written.parse().ok()?;
    Micros::from_seconds(seconds.floor() as i64).map(|t| Micros(t.0 + (seconds.fract().abs() * 1e6) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Tape;

    fn check(json: &str, expected: &str) {
        let mut tape = Tape::default();
        let v = tape.parse(json.as_bytes()).expect("the test writes JSON");
        let got = match actors(v) {
            Some(chain) => chain.iter().map(|a| a.id).collect::<Vec<_>>().join(" > "),
            None => "none".into(),
        };
        assert_eq!(got, expected, "{json}");
    }

    #[test]
    fn nested_act_comes_out_root_first() {
        check(r#"{"sub":"b"}"#, "b");
        check(r#"{"sub":"c","act":{"sub":"b","act":{"sub":"a"}}}"#, "a > b > c");
        check(r#"{"act":{"sub":"a","iss":"i"},"sub":"b"}"#, "a > b");
        check(r#"{"client_id":"cli","act":null}"#, "cli");
        check(r#"{"sub":"b","act":{}}"#, "none");
        check(r#"{"sub":"b","act":"a"}"#, "none");
        check(r#""b""#, "none");
    }

    /// P14: an `act` claim made of a path, root first, reads as that path again: as long as it is deep, issuers with their
    /// actors, whoever comes twice in a row twice. Over 10,000 paths, the order of members in each claim drawn.
    #[test]
    fn what_was_nested_reads_as_it_was() {
        let mut dice = 0x51ed_u64;
        let mut draw = |n: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % n
        };
        let mut tape = Tape::default();
        for _ in 0..10_000 {
            let path: Vec<(String, Option<String>)> = (0..1 + draw(12))
                .map(|_| {
                    let id = ["a", "b", "https://x/\\u00e9", "client:1"][draw(4) as usize];
                    (id.to_owned(), (draw(2) == 0).then(|| format!("iss{}", draw(2))))
                })
                .collect();
            let nested = path.iter().fold(String::new(), |inner, (id, issuer)| {
                let mut members = vec![format!(r#""sub":"{id}""#)];
                members.extend(issuer.as_ref().map(|i| format!(r#""iss":"{i}""#)));
                members.extend((!inner.is_empty()).then(|| format!(r#""act":{inner}"#)));
                let turn = draw(members.len() as u64) as usize;
                members.rotate_left(turn);
                format!("{{{}}}", members.join(","))
            });
            let read = actors(tape.parse(nested.as_bytes()).expect("the test writes JSON")).expect("an act claim");
            let read: Vec<(String, Option<String>)> =
                read.iter().map(|a| (a.id.to_owned(), a.issuer.and_then(|v| v.as_str()).map(str::to_owned))).collect();
            let plain: Vec<_> = path.iter().map(|(id, issuer)| (id.replace("\\u00e9", "é"), issuer.clone())).collect();
            assert_eq!(read, plain, "{nested}");
        }
    }

    #[test]
    fn numeric_dates_come_in_many_forms() {
        let mut tape = Tape::default();
        for (json, expected) in [
            ("1795219800", Some(1_795_219_800_000_000)),
            ("1795219800.5", Some(1_795_219_800_500_000)),
            ("1.7952198e9", Some(1_795_219_800_000_000)),
            ("\"2026-11-21T01:19:07Z\"", Some(1_795_223_947_000_000)),
            ("\"soon\"", None),
            ("1e300", None),
            ("true", None),
        ] {
            let v = tape.parse(json.as_bytes()).expect("the test writes JSON");
            assert_eq!(numeric_date(v).map(|t| t.0), expected, "{json}");
        }
    }
}
