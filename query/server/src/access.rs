//! Who asks, and whose rows they see.

use axum::http::{HeaderMap, header};
use catena_engine::Scope;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// How questions are told apart.
#[derive(Clone, Debug)]
pub enum Access {
    /// Whoever reaches the listener sees everything. For a listener that only this machine reaches.
    Open,
    /// By bearer key: SHA-256 of a key, and the tenant whose rows it sees.
    Keys(HashMap<[u8; 32], String>),
}

impl Access {
    /// The scope of a request; `None` when it is not known who asks.
    pub(crate) fn scope(&self, headers: &HeaderMap) -> Option<Scope> {
        let Access::Keys(keys) = self else { return Some(Scope::All) };
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
        let (scheme, key) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        // Looked up by digest: how long that takes says nothing about the key.
        let digest: [u8; 32] = Sha256::digest(key.trim_matches(' ').as_bytes()).into();
        keys.get(&digest).map(|tenant| Scope::tenant(tenant.as_str()))
    }
}
