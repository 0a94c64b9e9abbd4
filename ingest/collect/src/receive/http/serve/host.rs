//! Which host a request names.
//!
//! Guarantee: a request that gets past here names exactly one host, once: by one `Host` field, by the authority of its
//! target, or by both if they are the same. What is ambiguous may be read one way by a proxy in front and another way
//! here (RFC 9112, 3.2 asks for 400).

use crate::receive::http::problem::Problem;
use axum::http::{Request, header};

/// Refuses a request that names no host, or more than one.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::bad_request("host_invalid", detail.to_owned()));
    let mut fields = request.headers().get_all(header::HOST).iter();
    let target = request.uri().authority().map(|a| a.as_str());
    match (fields.next(), fields.next(), target) {
        (_, Some(_), _) => refused("the request has more than one `Host` field"),
        (None, None, None) => refused("the request has no `Host` field"),
        (Some(host), None, Some(target)) if !host.as_bytes().eq_ignore_ascii_case(target.as_bytes()) => {
            refused("the `Host` field is not the host of the target")
        }
        (Some(host), None, None) if !is_one(host.as_bytes()) => refused("the `Host` field does not hold one host"),
        _ => Ok(()),
    }
}

/// One name or address with a port, as far as bytes go.
fn is_one(host: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_graphic() && !b",/?#@\\\"<>".contains(b);
    !host.is_empty() && host.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_host() {
        let check = |target: &str, hosts: &[&str], fine: bool| {
            let mut request = Request::builder().uri(target);
            for host in hosts {
                request = request.header("host", *host);
            }
            assert_eq!(check(&request.body(()).unwrap()).is_ok(), fine, "{target} {hosts:?}");
        };
        check("/", &["localhost:7878"], true);
        check("/", &["[::1]:7878"], true);
        check("/", &["catena.corp.example"], true);
        check("http://localhost/", &[], true);
        check("http://localhost/", &["LOCALHOST"], true);
        check("/", &[], false);
        check("/", &[""], false);
        check("/", &["localhost", "localhost"], false);
        check("/", &["localhost", "evil.example"], false);
        check("/", &["localhost, evil.example"], false);
        check("/", &["localhost evil.example"], false);
        check("/", &["user@localhost"], false);
        check("http://localhost/", &["evil.example"], false);
    }
}
