//! Which pages may ask, where no key is asked for: being on this machine is all the proof there is then, and a browser on
//! this machine runs pages of strangers.
//!
//! Guarantees: without keys only requests that name this machine as their host are answered, so that no foreign name that
//! resolves to it (DNS rebinding) is; none that a page of another origin makes a browser send is answered, whatever
//! it embeds, by `Origin` for scripts and forms and by `Sec-Fetch-Site` for everything else: browsers send the first with
//! no image, style, script or frame. Following a link to the page itself is allowed, since it only shows what its own
//! scripts ask for later, and takes no statement from its address.

use super::problem::Problem;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// The page's own address.
const PAGE: &str = "/";

/// Turns away requests that are not of this machine, or of a page of another origin.
pub fn loopback_only(router: Router) -> Router {
    router.layer(from_fn(guard))
}

async fn guard(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check<B>(request: &axum::http::Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let named = request.uri().authority().map(|a| a.as_str());
    let host = named.or_else(|| headers.get(header::HOST).and_then(|h| h.to_str().ok()));
    if !host.is_some_and(is_this_machine) {
        let detail = "without keys only requests to localhost or a loopback address are answered".to_owned();
        return Err(Problem::forbidden("host_foreign", detail));
    }
    let ours = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| Some(of) == host);
    if headers.get_all(header::ORIGIN).iter().any(|o| !o.to_str().is_ok_and(ours)) {
        return Err(Problem::forbidden("origin_foreign", "pages of other origins are not answered".into()));
    }
    let sites = headers.get_all("sec-fetch-site").iter();
    if sites.into_iter().any(|site| site != "same-origin" && site != "none") && !follows_a_link(request) {
        let detail = "without keys, requests that a page of another origin makes a browser send are not answered: \
                      open the address itself, or set `[http] keys`";
        return Err(Problem::forbidden("site_foreign", detail.into()));
    }
    Ok(())
}

/// Whether a browser goes to the page itself, in a tab of its own.
fn follows_a_link<B>(request: &axum::http::Request<B>) -> bool {
    let is = |name: &str, value: &str| only(request.headers(), name) == Some(value);
    let page = request.uri().path() == PAGE && request.method() == Method::GET;
    page && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
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

    #[test]
    fn names_of_this_machine() {
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

    #[test]
    fn what_a_browser_may_send() {
        let check = |request: &str, want: &str| {
            let mut lines = request.lines().map(str::trim);
            let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
            let mut built = axum::http::Request::builder().method(method).uri(target);
            for (name, value) in lines.map(|l| l.split_once(": ").unwrap()) {
                built = built.header(name, value);
            }
            let got = check(&built.body(()).unwrap()).err().map_or("", |p| p.code());
            assert_eq!(got, want, "{request}");
        };
        let sql = "GET /api/v1/sql?q=SELECT\nhost: localhost:7878";
        let page = "GET /\nhost: localhost:7878";
        check(sql, "");
        check("GET /api/v1/sql?q=SELECT", "host_foreign");
        check("GET /api/v1/sql?q=SELECT\nhost: evil.example", "host_foreign");
        // Typed into the address bar, and asked by the page itself.
        check(&format!("{sql}\nsec-fetch-site: none\nsec-fetch-mode: navigate\nsec-fetch-dest: document"), "");
        check(&format!("{sql}\nsec-fetch-site: same-origin\norigin: http://localhost:7878"), "");
        check(&format!("{sql}\norigin: https://evil.example"), "origin_foreign");
        check(&format!("{sql}\norigin: null"), "origin_foreign");
        check(&format!("{sql}\norigin: http://localhost:7878\norigin: https://evil.example"), "origin_foreign");
        // Embedded by a page of another origin; another port of this machine is one too.
        for site in ["cross-site", "same-site", "anything"] {
            check(&format!("{sql}\nsec-fetch-site: {site}\nsec-fetch-dest: image"), "site_foreign");
            check(&format!("POST /logs\nhost: localhost\nsec-fetch-site: {site}"), "site_foreign");
        }
        check(&format!("{sql}\nsec-fetch-site: none\nsec-fetch-site: cross-site"), "site_foreign");
        let link = "sec-fetch-site: cross-site\nsec-fetch-mode: navigate\nsec-fetch-dest: document";
        check(&format!("{page}\n{link}"), "");
        check(&format!("{sql}\n{link}"), "site_foreign");
        check(&format!("GET /page.js\nhost: localhost\n{link}"), "site_foreign");
        check(&format!("POST /\nhost: localhost\n{link}"), "site_foreign");
        check(&format!("{page}\n{}", link.replace("document", "iframe")), "site_foreign");
        check(&format!("{page}\nsec-fetch-site: cross-site\nsec-fetch-mode: no-cors"), "site_foreign");
    }
}
