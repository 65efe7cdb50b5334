//! What one source needs besides the node's settings: headers that a server is shown, and authorities that vouch for it.
//!
//! Why here: both come from a tenant, and the headers are secrets. They are sent to the origin of the source's own URL alone
//! (RFC 6454: scheme, host and port), only by https, and to nobody any more once a redirect has led elsewhere. `Debug` shows
//! none of their values. Pure. Route in: names and values. Route out: [`Access`], or the name that cannot be used.

use super::url;
use std::fmt;
use ureq::http::header::ACCEPT;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// Headers that say where a request goes, which bytes it asks for, and how the connection is used: those are the client's
/// (RFC 9110 §7.2, §7.6.1, §14.2; RFC 9112 §6).
const OF_THE_CLIENT: &[&str] = &[
    "host",
    "range",
    "if-range",
    "expect",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
];

/// What a server is shown, and by what it is known.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    headers: HeaderMap,
    public: HeaderMap,
    authorities: Option<String>,
}

/// Names alone: this is what logs show.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        let authorities = &self.authorities.is_some();
        f.debug_struct("Access").field("headers", &names).field("authorities", authorities).finish()
    }
}

/// A header that cannot be sent. Its value is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The name is none.
    #[error("the name of a header is not a token of HTTP")]
    Name,
    /// The value has line breaks or other control characters.
    #[error("the value of header {0} has characters that a header cannot have")]
    Value(String),
    /// It is the client's own.
    #[error("header {0} is set by the client itself")]
    OfTheClient(String),
}

impl Access {
    /// Adds a header; several of one name are sent one after another.
    pub fn add_header(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::Name)?;
        if OF_THE_CLIENT.contains(&name.as_str()) {
            return Err(HeaderError::OfTheClient(name.to_string()));
        }
        let mut value = HeaderValue::from_bytes(value).map_err(|_| HeaderError::Value(name.to_string()))?;
        value.set_sensitive(true);
        self.headers.append(name, value);
        Ok(())
    }

    /// Says which kinds of answer are understood (`Accept`, RFC 9110 §12.5.1): no secret, so every server is told.
    pub fn accept(&mut self, kinds: &'static str) {
        self.public.insert(ACCEPT, HeaderValue::from_static(kinds));
    }

    /// Trusts the authorities in `pem` for this source, and no others.
    pub fn trust(&mut self, pem: String) {
        self.authorities = Some(pem);
    }

    /// The authorities that are trusted for it, in PEM; none: those of the node's settings.
    pub fn authorities(&self) -> Option<&str> {
        self.authorities.as_deref()
    }

    /// The headers that are secrets.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// The headers that are still sent, from one redirect to the next.
pub(super) struct Sent<'a> {
    secret: Option<&'a HeaderMap>,
    public: &'a HeaderMap,
}

impl<'a> Sent<'a> {
    /// Those for the first request of a source; secrets are not sent in the clear.
    pub(super) fn first(access: &'a Access, uri: &Uri) -> Result<Self, &'static str> {
        let public = &access.public;
        if access.headers.is_empty() {
            return Ok(Self { secret: None, public });
        }
        match url::is_https(uri) {
            true => Ok(Self { secret: Some(&access.headers), public }),
            false => Err("credentials are sent by https alone; use a URL that begins with https://"),
        }
    }

    /// After a redirect: no secret, and none later, where it leads to another origin.
    pub(super) fn redirected(&mut self, from: &Uri, to: &Uri) {
        if !url::is_same_origin(from, to) {
            self.secret = None;
        }
    }

    /// The headers of the next request.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.public.iter().chain(self.secret.into_iter().flat_map(HeaderMap::iter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_password() -> Access {
        let mut access = Access::default();
        access.add_header("authorization", b"Basic secret").unwrap();
        access
    }

    fn sent(url: &str, redirects: &[&str]) -> usize {
        let access = with_password();
        let mut uri: Uri = url.parse().unwrap();
        let mut sent = Sent::first(&access, &uri).unwrap();
        for next in redirects {
            let next: Uri = next.parse().unwrap();
            sent.redirected(&uri, &next);
            uri = next;
        }
        sent.headers().count()
    }

    #[test]
    fn a_password_goes_to_the_origin_of_the_url_alone_and_never_again_after_another_origin() {
        let url = "https://images.example/a";
        assert_eq!(sent(url, &[]), 1);
        assert_eq!(sent(url, &["https://IMAGES.example:443/b", "https://images.example/c"]), 1);
        for other in [
            "https://images.example:8443/a",
            "http://images.example/a",
            "http://images.example:443/a",
            "https://mirror.example/a",
            "https://images.example.evil.test/a",
        ] {
            assert_eq!(sent(url, &[other]), 0, "{other}");
            assert_eq!(sent(url, &[other, url]), 0, "back from {other}");
        }
    }

    #[test]
    fn a_password_is_not_sent_in_the_clear() {
        let uri: Uri = "http://images.example/a".parse().unwrap();
        assert!(Sent::first(&with_password(), &uri).is_err());
        assert!(Sent::first(&Access::default(), &uri).is_ok());
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        let access = with_password();
        let shown = format!("{access:?} {:?}", access.headers());
        assert!(shown.contains("authorization") && !shown.contains("secret"), "{shown}");
        let refused = Access::default().add_header("x-token", b"secret\r\nHost: other").unwrap_err();
        assert_eq!(refused, HeaderError::Value("x-token".into()));
    }

    #[test]
    fn headers_that_are_the_clients_own_are_refused() {
        for name in ["Host", "range", "Content-Length", "Transfer-Encoding", "Connection"] {
            let refused = Access::default().add_header(name, b"x").unwrap_err();
            assert_eq!(refused, HeaderError::OfTheClient(name.to_lowercase()));
        }
        assert_eq!(Access::default().add_header("a b", b"x"), Err(HeaderError::Name));
        assert_eq!(Access::default().add_header("", b"x"), Err(HeaderError::Name));
    }
}
