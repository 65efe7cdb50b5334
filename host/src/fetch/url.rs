//! URLs of files: parsed, joined, and shown without what may be a password in them.
//!
//! Why here: RFC 3986 as far as a Location header needs it, on the [`Uri`] that ureq asks for, so that what is judged and
//! what is asked for cannot differ. Pure. Route in: text from a tenant or a server. Route out: a [`Uri`] with http or https
//! and a host, or what is wrong with it.

use ureq::http::Uri;

/// Parses an absolute URL of http or https without a user name.
pub(super) fn parse(text: &str) -> Result<Uri, &'static str> {
    // A fragment is the client's own and is never sent.
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err("only http and https are fetched"),
        None => return Err("it does not begin with http:// or https://"),
    }
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("a user name or password in a URL is shown in statuses and logs; leave it out");
    }
    if authority.host().is_empty() {
        return Err("it names no host");
    }
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return Err("its port is not one of 1 to 65535");
    }
    Ok(uri)
}

/// The URL that the Location header `reference` means in an answer to `base`.
pub(super) fn join(base: &Uri, reference: &str) -> Result<Uri, &'static str> {
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    if reference.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) {
        return parse(reference);
    }
    if reference.starts_with("//") {
        return parse(&format!("{scheme}:{reference}"));
    }
    if reference.starts_with('/') {
        return parse(&format!("{scheme}://{authority}{reference}"));
    }
    let path = base.path();
    if reference.starts_with('?') {
        return parse(&format!("{scheme}://{authority}{path}{reference}"));
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    parse(&format!("{scheme}://{authority}{folder}/{reference}"))
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether `uri` is fetched over TLS.
pub(super) fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

/// Whether both lead to the same origin: scheme, host and port (RFC 6454 §4).
pub(super) fn is_same_origin(a: &Uri, b: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    is_https(a) == is_https(b) && port(a) == port(b) && host(a) == host(b)
}

/// The port that `uri` leads to.
pub(super) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if is_https(uri) { 443 } else { 80 })
}

/// `url` as it may be shown to everybody: without user name, password, query and fragment.
pub fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        _ => ("", url),
    };
    let (shown, hidden) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let (authority, path) = shown.split_at(shown.find('/').unwrap_or(shown.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let colon = if scheme.is_empty() { "" } else { "://" };
    let query = if hidden.is_empty() { "" } else { "?..." };
    format!("{scheme}{colon}{host}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_with_a_host_and_without_a_user_are_taken() {
        for good in ["http://a/b", "https://a:8443/b?c=d#e", "http://[2001:db8::1]/", "http://a"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "ftp://a/b",
            "file:///etc/passwd",
            "/b",
            "",
            "http://",
            "http:///b",
            "http://user@a/",
            "http://u:p@a/",
            "http://a:0/",
            "http://a:/",
            "http://a:99999/",
            "http://a b/",
            "https://@a/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_location_is_joined_to_the_url_it_answers() {
        let base: Uri = "https://a.example:8443/dir/file?x=y".parse().unwrap();
        for (reference, expected) in [
            ("http://b.example/c", "http://b.example/c"),
            ("//b.example/c", "https://b.example/c"),
            ("/c?d", "https://a.example:8443/c?d"),
            ("c", "https://a.example:8443/dir/c"),
            ("?d", "https://a.example:8443/dir/file?d"),
            ("c/d:e", "https://a.example:8443/dir/c/d:e"),
        ] {
            assert_eq!(join(&base, reference).unwrap().to_string(), expected, "{reference}");
        }
        for bad in ["ftp://a/", "file:/etc/passwd", "javascript:1", "//user@b/", "http:"] {
            assert!(join(&base, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_a_password() {
        for (url, shown) in [
            ("https://images.example/a.img", "https://images.example/a.img"),
            ("https://images.example/a.img?token=secret", "https://images.example/a.img?..."),
            ("https://images.example?token=secret/x@y", "https://images.example?..."),
            ("https://user:secret@images.example:8443/a#secret", "https://images.example:8443/a?..."),
            ("https://user:sec@ret@images.example/a", "https://images.example/a"),
            ("user:secret@images.example", "images.example"),
            ("user:secret@images.example/?a://b", "images.example/?..."),
            ("https://images.example/a@b", "https://images.example/a@b"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
