//! The session's cookie, and how any cookie is read.
//!
//! Why here: the prefix `__Host-` makes browsers refuse the cookie unless it is Secure, for this host only and for the whole
//! path, so that no other host of the domain can plant one (RFC 6265bis §4.1.3.2). Pure.

use http::{HeaderMap, HeaderValue, header};

/// Its name.
pub const NAME: &str = "__Host-sheaf-session";
/// Attributes. No Expires: the browser forgets it when it ends, the server before that.
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";
/// Longest value that is looked at: a secret has 43.
const LONGEST: usize = 64;

/// The value of the cookie; `None` if it is missing, or there are several: then somebody planted one.
pub fn read(headers: &HeaderMap) -> Option<&str> {
    let fits = |value: &&str| {
        !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    the_one(headers, NAME, LONGEST).filter(fits)
}

/// The value of the one cookie `called` so, of at most `longest` bytes; `None` if there are several.
pub fn the_one<'a>(headers: &'a HeaderMap, called: &str, longest: usize) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == called).map(|(_, value)| value);
    let (value, None) = (values.next()?, values.next()) else { return None };
    (value.len() <= longest).then_some(value)
}

/// Sets it. `secret` is base64url.
pub fn set(secret: &str) -> HeaderValue {
    let text = format!("{NAME}={secret}; {ATTRIBUTES}");
    // base64url and constants: always a header's value.
    HeaderValue::from_str(&text).unwrap_or_else(|_| clear())
}

/// Removes it.
pub fn clear() -> HeaderValue {
    HeaderValue::from_static("__Host-sheaf-session=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn the_cookie_is_found_among_others_and_two_of_it_are_none() {
        assert_eq!(read(&with(&["a=b; __Host-sheaf-session=abc-_9; c=d"])), Some("abc-_9"));
        assert_eq!(read(&with(&["a=b", "__Host-sheaf-session=abc"])), Some("abc"));
        for refused in [
            &["a=b"][..],
            &["sheaf-session=abc"],
            &["__Host-sheaf-session="],
            &["__Host-sheaf-session=a/b"],
            &["__Host-sheaf-session=\"abc\""],
            &["__Host-sheaf-session=abc; __Host-sheaf-session=abd"],
            &["__Host-sheaf-session=abc", "__Host-sheaf-session=abd"],
            &["__host-sheaf-session=abc"],
        ] {
            assert_eq!(read(&with(refused)), None, "{refused:?}");
        }
        let long = format!("__Host-sheaf-session={}", "a".repeat(65));
        assert_eq!(read(&with(&[&long])), None);
    }

    #[test]
    fn a_cookie_is_for_this_host_over_tls_only_and_no_script_reads_it() {
        assert_eq!(set("abc"), "__Host-sheaf-session=abc; Path=/; Secure; HttpOnly; SameSite=Strict");
        let cleared = clear();
        assert!(cleared.to_str().unwrap().ends_with(&format!("{ATTRIBUTES}; Max-Age=0")));
    }
}
