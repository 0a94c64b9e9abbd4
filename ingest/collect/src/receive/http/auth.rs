//! Who sends: a key belongs to a tenant, and may do certain things.
//!
//! Guarantees: keys are known only by their SHA-256; the tenant of a request is that of its key, and nothing in the body
//! or in other headers changes it; a key that may not ingest writes nothing. Without keys everything belongs to one
//! tenant, and then only this machine may ask: the listener must be on a loopback address, and a web page in a browser
//! here is turned away ([`loopback_only`](super::loopback_only)).

use super::problem::Problem;
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Send records.
    Ingest,
    /// Ask for them.
    Read,
    /// See the figures of each topic and partition, of all tenants.
    Metrics,
}

/// One API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// SHA-256 of the key, in hex.
    pub sha256: String,
    /// Whose records it sends.
    pub tenant: String,
    /// What it may do.
    pub may: Vec<May>,
}

/// How requests are distinguished.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Whoever reaches the listener sends for this tenant. Loopback only.
    Open {
        /// The tenant.
        tenant: Arc<str>,
    },
    /// By bearer key.
    Keys(HashMap<[u8; 32], Grant>),
}

/// What a key was given.
#[derive(Clone, Debug)]
pub struct Grant {
    tenant: Arc<str>,
    may: Vec<May>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It has no key, or an unknown one.
    Unknown,
    /// Its key may do other things.
    MayNot,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Unknown => Problem::unauthorized(),
            Refused::MayNot => Problem::may_not_ingest(),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthError {
    /// Anyone could send.
    #[error(
        "refusing to listen on {0} without keys: anyone who reaches it could write into the trail. Listen on 127.0.0.1, or \
         give at least one key"
    )]
    Exposed(SocketAddr),
    /// Not a digest.
    #[error(
        "key of tenant `{tenant}` is not the SHA-256 of a key: 64 hex digits are needed (printf %s KEY | sha256sum)"
    )]
    Digest {
        /// Whose.
        tenant: String,
    },
    /// One key for two.
    #[error("tenants `{0}` and `{1}` have the same key")]
    Shared(String, String),
    /// A name that cannot be one.
    #[error("tenant `{0}` is not a name: 1 to 64 letters, digits, `-`, `_` and `.`, not starting with a dot")]
    Tenant(String),
}

impl Auth {
    /// From the keys of the settings; without any, everything is the default tenant's.
    pub fn new(keys: &[Key], default_tenant: &str) -> Result<Auth, AuthError> {
        let tenants = keys.iter().map(|k| k.tenant.as_str()).chain([default_tenant]);
        for tenant in tenants {
            let named = (1..=64).contains(&tenant.len()) && !tenant.starts_with('.');
            if !named || !tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                return Err(AuthError::Tenant(tenant.to_owned()));
            }
        }
        if keys.is_empty() {
            return Ok(Auth::Open { tenant: default_tenant.into() });
        }
        let mut known: HashMap<[u8; 32], Grant> = HashMap::new();
        for key in keys {
            let mut digest = [0; 32];
            hex::decode_to_slice(&key.sha256, &mut digest)
                .map_err(|_| AuthError::Digest { tenant: key.tenant.clone() })?;
            let grant = Grant { tenant: key.tenant.as_str().into(), may: key.may.clone() };
            if let Some(other) = known.insert(digest, grant) {
                return Err(AuthError::Shared(other.tenant.to_string(), key.tenant.clone()));
            }
        }
        Ok(Auth::Keys(known))
    }

    /// Whether no key is asked for.
    pub fn is_open(&self) -> bool {
        matches!(self, Auth::Open { .. })
    }

    /// Refuses an address that others can reach when no key is asked for.
    pub fn check_listener(&self, address: SocketAddr) -> Result<(), AuthError> {
        if self.is_open() && !address.ip().is_loopback() { Err(AuthError::Exposed(address)) } else { Ok(()) }
    }

    /// The tenant of a request that may do this.
    pub(super) fn judge(&self, headers: &HeaderMap, wish: May) -> Result<Arc<str>, Refused> {
        let known = match self {
            Auth::Open { tenant } => return Ok(tenant.clone()),
            Auth::Keys(known) => known,
        };
        // Looked up by digest: how long that takes says nothing about the key.
        let grant = bearer(headers).and_then(|key| known.get(&digest(key))).ok_or(Refused::Unknown)?;
        if grant.may.contains(&wish) { Ok(grant.tenant.clone()) } else { Err(Refused::MayNot) }
    }

    /// Tenants that may send.
    pub(super) fn tenants(&self) -> usize {
        match self {
            Auth::Open { .. } => 1,
            Auth::Keys(known) => {
                let sending = known.values().filter(|grant| grant.may.contains(&May::Ingest));
                sending.map(|grant| &*grant.tenant).collect::<HashSet<_>>().len()
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_matches(' '))
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn key(secret: &str, tenant: &str) -> Key {
        Key { sha256: hex::encode(digest(secret)), tenant: tenant.into(), may: vec![May::Ingest] }
    }

    #[test]
    fn a_key_belongs_to_its_tenant() {
        let auth = Auth::new(&[key("ka", "a"), key("kb", "b")], "default").unwrap();
        let tenant = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            auth.judge(&headers, May::Ingest).ok()
        };
        assert_eq!(tenant(&["Bearer ka"]).as_deref(), Some("a"));
        assert_eq!(tenant(&["bearer kb"]).as_deref(), Some("b"));
        for refused in
            [&[][..], &["Bearer"], &["Bearer "], &["Bearer kc"], &["Basic ka"], &["ka"], &["Bearer ka", "Bearer kb"]]
        {
            assert_eq!(tenant(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        assert_eq!(
            Auth::new(&[key("k", "a"), key("k", "b")], "d").err(),
            Some(AuthError::Shared("a".into(), "b".into()))
        );
        let plain = Key { sha256: "secret".into(), tenant: "a".into(), may: vec![May::Ingest] };
        assert_eq!(Auth::new(&[plain], "d").err(), Some(AuthError::Digest { tenant: "a".into() }));
        for name in ["", "..", "a/b", "a=b", "ü", &"x".repeat(65)] {
            assert_eq!(Auth::new(&[], name).err(), Some(AuthError::Tenant(name.into())));
        }
    }

    #[test]
    fn without_keys_only_this_machine() {
        let open = Auth::new(&[], "default").unwrap();
        for (address, allowed) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(open.check_listener(address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
        let keyed = Auth::new(&[key("k", "a")], "d").unwrap();
        assert!(keyed.check_listener("0.0.0.0:1".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_key_does_what_it_may() {
        let all = [May::Ingest, May::Read, May::Metrics];
        let keys: Vec<Key> = all.iter().map(|may| Key { may: vec![*may], ..key(&format!("{may:?}"), "a") }).collect();
        let auth = Auth::new(&keys, "d").unwrap();
        for given in all {
            let headers = HeaderMap::from_iter([(
                header::AUTHORIZATION,
                HeaderValue::from_str(&format!("Bearer {given:?}")).unwrap(),
            )]);
            for wish in all {
                let want = if wish == given { Ok("a".into()) } else { Err(Refused::MayNot) };
                assert_eq!(auth.judge(&headers, wish), want, "{given:?} {wish:?}");
            }
        }
        assert_eq!(auth.judge(&HeaderMap::new(), May::Metrics), Err(Refused::Unknown));
        assert_eq!(auth.tenants(), 1);
    }
}
