//! Headers that every answer carries.
//!
//! Why here: a page that is framed, runs a script of somebody else or is cached on a shared machine is a hole whatever the
//! rest does. Pure. Sources: CSP level 3, Fetch (`Cross-Origin-*`), OWASP Secure Headers.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Scripts, styles, pictures and connections of this origin only; nothing inline, no frames, no plug-ins, no other base.
/// Pictures may be `data:` and `blob:`: PatternFly has icons in its styles, and a screen is a picture.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// Name and value.
const ALWAYS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=()",
    ),
    // No subdomains and no preload: the name may be shared with other services.
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
];

/// Adds them; what has no rule for caches is not stored.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_may_be_framed_sniffed_or_stored_and_none_runs_what_is_inline() {
        let mut headers = HeaderMap::new();
        secure(&mut headers);
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("  ") && !policy.contains('\n'), "{policy}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
        let mut kept = HeaderMap::new();
        kept.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"));
        secure(&mut kept);
        assert_eq!(kept[header::CACHE_CONTROL], "public, max-age=1", "what an asset says of itself stays");
    }
}
