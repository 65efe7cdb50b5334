//! Whether a request comes from the console's own page.
//!
//! Why here: a browser sends the cookie with requests that other pages cause (CSRF), and opens WebSockets to any host for
//! them. SameSite=Strict is the first answer; this is the second, and for WebSockets the only one that every browser gives:
//! the `Origin` must be this host, and a change needs a header that no form and no other page can send without being asked
//! first (OWASP CSRF Prevention, "custom request headers"). Requests without a cookie (tokens, `sheaf admin claim`) need
//! neither: nothing is sent with them that their sender does not have. Pure. Route in: method and headers. Route out: a
//! refusal, or none.

use http::{HeaderMap, HeaderName, Method, header};

use crate::answer::Refusal;

/// The header of changes; any value.
pub const HEADER: HeaderName = HeaderName::from_static("x-sheaf-console");
/// Fetch metadata: how the page that caused the request relates to this host.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what another page caused. `stream` is a WebSocket; `cookie` says that the request carries one.
pub fn check(method: &Method, headers: &HeaderMap, stream: bool, cookie: bool) -> Result<(), Refusal> {
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    if let Some(site) = headers.get(FETCH_SITE)
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Err(Refusal::forbidden("this request was caused by a page of another site"));
    }
    match headers.get(header::ORIGIN) {
        Some(origin) if !is_own(origin.as_bytes(), headers) => {
            return Err(Refusal::forbidden("this request was caused by a page of another origin"));
        }
        None if cookie && (changes || stream) => {
            return Err(Refusal::forbidden("a request with a session's cookie must name its origin"));
        }
        _ => {}
    }
    if changes && cookie && !headers.contains_key(HEADER) {
        return Err(Refusal::forbidden("a change by a session needs the header X-Sheaf-Console"));
    }
    Ok(())
}

/// Whether `origin` is `https://` and what the request has as its Host.
fn is_own(origin: &[u8], headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let own = origin.strip_prefix(b"https://");
    own.is_some_and(|own| !own.is_empty() && own.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    const OWN: [(&str, &str); 3] =
        [("host", "192.0.2.10:8443"), ("origin", "https://192.0.2.10:8443"), ("x-sheaf-console", "1")];

    #[test]
    fn the_consoles_own_page_may_change_and_open_streams() {
        let own = headers(&OWN);
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(check(&method, &own, false, true), Ok(()), "{method}");
        }
        assert_eq!(check(&Method::GET, &own, true, true), Ok(()));
        // A link that a person typed, and the page's own pictures.
        assert_eq!(
            check(&Method::GET, &headers(&[("host", "a"), ("sec-fetch-site", "none")]), false, true),
            Ok(())
        );
        assert_eq!(check(&Method::GET, &headers(&[("host", "a")]), false, true), Ok(()));
        // A program with a token.
        assert_eq!(check(&Method::POST, &headers(&[("host", "a")]), false, false), Ok(()));
    }

    #[test]
    fn what_another_page_causes_is_refused_with_the_reason() {
        let refused = |pairs: &[(&str, &str)], method: Method, stream| {
            check(&method, &headers(pairs), stream, true).unwrap_err().message
        };
        let (other, none, header) = (
            "this request was caused by a page of another origin",
            "a request with a session's cookie must name its origin",
            "a change by a session needs the header X-Sheaf-Console",
        );
        let post = |origin| {
            refused(&[("host", "a"), ("origin", origin), ("x-sheaf-console", "1")], Method::POST, false)
        };
        for origin in
            ["https://b", "http://a", "null", "https://a.b", "https://a:444", "https://", "a", "HTTPS://a"]
        {
            assert_eq!(post(origin), other, "{origin}");
        }
        assert_eq!(refused(&[("host", "a"), ("x-sheaf-console", "1")], Method::POST, false), none);
        assert_eq!(refused(&[("host", "a")], Method::GET, true), none);
        assert_eq!(refused(&[("host", "a"), ("origin", "https://b")], Method::GET, true), other);
        assert_eq!(refused(&[("host", "a"), ("origin", "https://a")], Method::DELETE, false), header);
        assert_eq!(
            refused(&[("host", "a"), ("sec-fetch-site", "cross-site")], Method::GET, false),
            "this request was caused by a page of another site"
        );
        assert_eq!(
            refused(&[("host", "a"), ("sec-fetch-site", "same-site")], Method::GET, false),
            "this request was caused by a page of another site"
        );
        // Two hosts: which of them the origin is compared with must not be a guess.
        let two = [("host", "a"), ("host", "b"), ("origin", "https://a"), ("x-sheaf-console", "1")];
        assert_eq!(refused(&two, Method::POST, false), other);
        // Without a cookie another origin is refused, too: a login that another page causes.
        let login = headers(&[("host", "a"), ("origin", "https://b")]);
        assert_eq!(check(&Method::POST, &login, false, false).unwrap_err().message, other);
    }
}
