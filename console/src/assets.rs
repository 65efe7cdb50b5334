//! Files of the page, which are in the binary.
//!
//! Why here: one file to install, and no path that leaves a folder: what is not in the table does not exist. They are packed once,
//! when they are built (`console/web/build`); a browser that cannot unpack them gets them plain. Names below `/assets/` have the
//! hash of their content and are kept for a year; the page itself is asked for each time. Route in: a path. Route out: bytes.

use http::{HeaderMap, HeaderValue, Method, header};

use crate::answer::{self, Answer, Refusal};

/// One file.
struct File {
    /// From the root, with a slash.
    path: &'static str,
    /// As it is.
    plain: &'static [u8],
    /// gzip, if that is smaller.
    packed: Option<&'static [u8]>,
    /// A quoted hash.
    etag: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// A year, as `immutable` is used.
const KEPT: &str = "public, max-age=31536000, immutable";

/// The file at `path`.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let path = if path == "/" { "/index.html" } else { path };
    let file = FILES.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| Refusal::not_found(format!("there is no {path}")))?;
    let text =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let mut answer = answer::empty();
    let is_same = text(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim() == file.etag);
    if is_same {
        *answer.status_mut() = http::StatusCode::NOT_MODIFIED;
    } else {
        *answer.status_mut() = http::StatusCode::OK;
        let unpacks = text(header::ACCEPT_ENCODING)
            .split(',')
            .any(|coding| coding.trim().split(';').next() == Some("gzip"));
        let (body, packed) = match file.packed {
            Some(packed) if unpacks => (packed, true),
            _ => (file.plain, false),
        };
        if packed {
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if *method != Method::HEAD {
            *answer.body_mut() = answer::known(body);
        }
    }
    let kept = if path.starts_with("/assets/") { KEPT } else { "no-cache" };
    for (name, value) in [
        (header::CONTENT_TYPE, kind(path)),
        (header::CACHE_CONTROL, kept),
        (header::ETAG, file.etag),
        (header::VARY, "accept-encoding"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(answer)
}

/// The type by the end of the name.
fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str, pairs: &[(header::HeaderName, &'static str)]) -> Result<Answer, Refusal> {
        let headers =
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        answer(&Method::GET, path, &headers)
    }

    #[test]
    fn the_page_is_there_and_a_path_out_of_it_is_not() {
        let page = ask("/", &[]).unwrap();
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
        for path in [
            "/../Cargo.toml",
            "/assets/../../etc/passwd",
            "/index.html/",
            "//index.html",
            "/%69ndex.html",
            "/etc/passwd",
        ] {
            assert_eq!(ask(path, &[]).unwrap_err().message, format!("there is no {path}"));
        }
    }

    #[test]
    fn a_file_that_a_browser_has_is_not_sent_again() {
        let tag = ask("/", &[]).unwrap().headers()[header::ETAG].to_str().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(&tag).unwrap());
        assert_eq!(answer(&Method::GET, "/", &headers).unwrap().status(), 304);
        let mut packed = FILES.iter().filter(|file| file.packed.is_some());
        if let Some(file) = packed.next() {
            let answered = ask(file.path, &[(header::ACCEPT_ENCODING, "br, gzip;q=0.8")]).unwrap();
            assert_eq!(answered.headers()[header::CONTENT_ENCODING], "gzip");
        }
        assert!(ask("/", &[]).unwrap().headers().get(header::CONTENT_ENCODING).is_none());
    }

    #[test]
    fn no_file_of_the_page_has_a_script_or_a_style_inline() {
        for file in FILES.iter().filter(|file| file.path.ends_with(".html")) {
            let text = String::from_utf8_lossy(file.plain);
            assert!(
                !text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="),
                "{}",
                file.path
            );
            let scripts = text.matches("<script").count();
            assert_eq!(scripts, text.matches(" src=").count(), "{}: each script is a file", file.path);
        }
    }
}
