//! Who sends: a key stands for a tenant.
//!
//! Guarantees: keys are known only by their SHA-256; the tenant of a request is that of its key, and nothing in the body
//! or in other headers changes it. Without keys everything belongs to one tenant, and then only this machine may ask:
//! the listener must be on a loopback address, and a web page in a browser here is turned away.

use super::problem::Problem;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// One API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// SHA-256 of the key, in hex.
    pub sha256: String,
    /// Whose records it sends.
    pub tenant: String,
}

/// How requests are told apart.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Whoever reaches the listener sends for this tenant. Loopback only.
    Open {
        /// The tenant.
        tenant: String,
    },
    /// By bearer key.
    Keys(HashMap<[u8; 32], String>),
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthError {
    /// Anybody could send.
    #[error(
        "refusing to listen on {0} without keys: anybody who reaches it could write into the trail. Listen on 127.0.0.1, or \
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
            return Ok(Auth::Open { tenant: default_tenant.to_owned() });
        }
        let mut known = HashMap::new();
        for key in keys {
            let mut digest = [0; 32];
            hex::decode_to_slice(&key.sha256, &mut digest)
                .map_err(|_| AuthError::Digest { tenant: key.tenant.clone() })?;
            if let Some(other) = known.insert(digest, key.tenant.clone()) {
                return Err(AuthError::Shared(other, key.tenant.clone()));
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

    /// The tenant of a request.
    pub fn tenant(&self, headers: &HeaderMap) -> Option<&str> {
        match self {
            Auth::Open { tenant } => Some(tenant),
            // Looked up by digest: how long that takes says nothing about the key.
            Auth::Keys(known) => known.get(&digest(bearer(headers)?)).map(String::as_str),
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

/// Turns away requests that name another host than this machine, and those that a page of another site makes a browser
/// send: without keys, being on this machine is all the proof there is.
pub fn loopback_only(router: Router) -> Router {
    router.layer(from_fn(check_host))
}

async fn check_host(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let named = request.uri().authority().map(|a| a.as_str());
    let host = named.or_else(|| headers.get(header::HOST).and_then(|h| h.to_str().ok()));
    if host.is_some_and(|h| !is_this_machine(h)) {
        let detail = "without keys only requests to localhost or a loopback address are answered".to_owned();
        return Problem::forbidden("host_foreign", detail).into_response();
    }
    let origin = headers.get(header::ORIGIN).map(|o| o.to_str().unwrap_or("null"));
    let ours = |o: &str| o.split_once("://").is_some_and(|(_, host)| Some(host) == self::authority(headers, named));
    if origin.is_some_and(|o| !ours(o)) {
        return Problem::forbidden("origin_foreign", "pages of other sites are not answered".into()).into_response();
    }
    next.run(request).await
}

fn authority<'a>(headers: &'a HeaderMap, named: Option<&'a str>) -> Option<&'a str> {
    named.or_else(|| headers.get(header::HOST).and_then(|h| h.to_str().ok()))
}

fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn key(secret: &str, tenant: &str) -> Key {
        Key { sha256: hex::encode(digest(secret)), tenant: tenant.into() }
    }

    #[test]
    fn a_key_stands_for_its_tenant() {
        let auth = Auth::new(&[key("ka", "a"), key("kb", "b")], "default").unwrap();
        let tenant = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            auth.tenant(&headers).map(str::to_owned)
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
        let plain = Key { sha256: "secret".into(), tenant: "a".into() };
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
        for (host, ours) in [
            ("localhost:7878", true),
            ("LOCALHOST", true),
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("[::1]", true),
            ("evil.example:7878", false),
            ("localhost.evil.example", false),
            ("", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_this_machine(host), ours, "{host}");
        }
    }
}
