//! The key files that settings name, looked at before anything starts.
//!
//! Guarantee: a service does not start with a private key that others than its owner can read.

use crate::config::Config;
use anyhow::Result;
use catena_collect::private;
use std::path::Path;

/// Properties of Kafka's client that name a file with a private key.
const KAFKA: [&str; 2] = ["ssl.key.location", "ssl.keystore.location"];

pub(crate) fn check(config: &Config) -> Result<()> {
    if !config.syslog.listen.is_empty() {
        private::check(&config.syslog.key)?;
    }
    if !config.kafka.brokers.is_empty() {
        for path in KAFKA.iter().filter_map(|name| config.kafka.properties.get(*name)) {
            private::check(Path::new(path))?;
        }
    }
    Ok(())
}
