//! Schemas from a registry that speaks Confluent's interface: Confluent's own, Apicurio, Redpanda, Karapace.
//!
//! Guarantees: a schema is asked for once and remembered, since a registry never changes one under its number. That the registry
//! does not know a number is an answer, remembered for [`REFUSED_FOR`], so that records of a wrong number cost no question each; that it
//! cannot be reached is none, and nothing is decided about the record then.

use catena_decode::framing::Registered;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// Time for one question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Schemas that one may refer to, in all.
const REFERENCES_MAX: usize = 64;
/// Schemas remembered.
const KNOWN_MAX: usize = 10_000;
/// How long it is believed that there is no schema of a number: there may be one in a moment, and a wrong number seldom comes alone.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// One registry.
#[derive(Debug)]
pub struct Registry {
    url: Url,
    client: reqwest::Client,
    known: Mutex<HashMap<u32, Remembered>>,
    refused_for: Duration,
}

/// What is known of a number; a refusal only until some time.
#[derive(Debug)]
struct Remembered {
    known: Known,
    until: Option<Instant>,
}

/// A schema, or why there is none to be had.
type Known = Result<Arc<Registered>, String>;

/// The registry could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("could not ask the schema registry at `{url}`")]
pub struct Unreachable {
    url: Url,
    source: reqwest::Error,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    #[serde(default)]
    schema_type: String,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

impl Registry {
    /// A registry at an address, with user and password in it if it wants them.
    pub fn new(url: Url) -> Result<Registry, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(TIMEOUT).build()?;
        Ok(Registry { url, client, known: Mutex::default(), refused_for: REFUSED_FOR })
    }

    /// The schema of a number. The inner error says why it has none: no such schema, or one that is not understood.
    pub async fn schema(&self, id: u32) -> Result<Known, Unreachable> {
        if let Some(remembered) = self.known.lock().get(&id)
            && remembered.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(remembered.known.clone());
        }
        let found = match self.ask(&["schemas", "ids", &id.to_string()]).await? {
            None => Err(format!("the registry has no schema {id}")),
            Some(answer) => self.read(answer).await?,
        };
        let until = found.is_err().then(|| Instant::now() + self.refused_for);
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(id, Remembered { known: found.clone(), until });
        Ok(found)
    }

    async fn read(&self, answer: Answer) -> Result<Known, Unreachable> {
        let mut texts: Vec<(String, String)> = Vec::new();
        let mut open = answer.references;
        while let Some(reference) = open.pop() {
            if texts.iter().any(|t| t.0 == reference.name) {
                continue;
            }
            if texts.len() == REFERENCES_MAX {
                return Ok(Err(format!("the schema refers to more than {REFERENCES_MAX} others")));
            }
            let path = ["subjects", &reference.subject, "versions", &reference.version.to_string()];
            let Some(found) = self.ask(&path).await? else {
                return Ok(Err(format!("the registry has no `{}`, version {}", reference.subject, reference.version)));
            };
            texts.push((reference.name, found.schema));
            open.extend(found.references);
        }
        let references: Vec<(&str, &str)> = texts.iter().map(|t| (t.0.as_str(), t.1.as_str())).collect();
        let parsed = Registered::parse(&answer.schema_type, &answer.schema, &references);
        Ok(parsed.map(Arc::new).map_err(|e| e.to_string()))
    }

    /// What stands at a path; `None` when there is nothing.
    async fn ask(&self, path: &[&str]) -> Result<Option<Answer>, Unreachable> {
        let unreachable = |source: reqwest::Error| Unreachable { url: self.shown(), source: source.without_url() };
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let answer = self.client.get(url).send().await.map_err(unreachable)?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = answer.error_for_status().map_err(unreachable)?.bytes().await.map_err(unreachable)?;
        // What is no answer of a registry says as little as none.
        Ok(serde_json::from_slice(&body).ok())
    }

    /// The address without a password.
    fn shown(&self) -> Url {
        let mut url = self.url.clone();
        let _ = url.set_password(None);
        let _ = url.set_username("");
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::{Path, State};
    use axum::http::StatusCode;
    use axum::routing::get;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// What a registry answers, and how often it was asked.
    async fn answering() -> (Registry, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let by_id = async |State(asked): State<Arc<AtomicUsize>>, Path(id): Path<u32>| {
            asked.fetch_add(1, Ordering::Relaxed);
            match id {
                1 => Ok(serde_json::json!({"schema": "\"string\""}).to_string()),
                2 => {
                    let refers = serde_json::json!([{"name": "corp.Who", "subject": "who", "version": 3}]);
                    let schema = r#"{"type":"record","name":"D","fields":[{"name":"who","type":"corp.Who"}]}"#;
                    Ok(serde_json::json!({"schema": schema, "schemaType": "AVRO", "references": refers}).to_string())
                }
                3 => Ok(serde_json::json!({"schema": "<xsd/>", "schemaType": "XML"}).to_string()),
                4 => Err(StatusCode::INTERNAL_SERVER_ERROR),
                _ => Err(StatusCode::NOT_FOUND),
            }
        };
        let by_subject = async |Path((subject, version)): Path<(String, i64)>| {
            assert_eq!((subject.as_str(), version), ("who", 3));
            let schema =
                r#"{"type":"record","name":"Who","namespace":"corp","fields":[{"name":"id","type":"string"}]}"#;
            serde_json::json!({"schema": schema}).to_string()
        };
        let routes = axum::Router::new()
            .route("/api/schemas/ids/{id}", get(by_id))
            .route("/api/subjects/{subject}/versions/{version}", get(by_subject))
            .with_state(asked.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:secret@{}/api/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (Registry::new(url.parse().unwrap()).unwrap(), asked)
    }

    #[tokio::test]
    async fn schemas_are_asked_for_once() {
        let (registry, asked) = answering().await;
        for _ in 0..3 {
            let schema = registry.schema(1).await.unwrap().unwrap();
            assert_eq!(schema.json(&[2, b'a']).unwrap().text, "\"a\"");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let schema = registry.schema(2).await.unwrap().unwrap();
        assert_eq!(schema.json(&[2, b'a']).unwrap().text, r#"{"who":{"id":"a"}}"#);
    }

    #[tokio::test]
    async fn a_refusal_is_remembered_for_a_while() {
        let (mut registry, asked) = answering().await;
        for _ in 0..3 {
            assert_eq!(registry.schema(9).await.unwrap().unwrap_err(), "the registry has no schema 9");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        registry.refused_for = Duration::ZERO;
        for _ in 0..3 {
            registry.schema(10).await.unwrap().unwrap_err();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn an_unknown_schema_is_an_answer_and_an_unreachable_registry_is_none() {
        let (registry, _) = answering().await;
        assert_eq!(registry.schema(9).await.unwrap().unwrap_err(), "the registry has no schema 9");
        assert!(registry.schema(3).await.unwrap().unwrap_err().contains("`XML`"));
        let error = registry.schema(4).await.unwrap_err();
        assert!(!error.to_string().contains("secret") && error.to_string().contains("127.0.0.1"), "{error}");
    }
}
