//! Whatever a tenant writes as a URL and a server as its header: nothing panics, and no URL leads elsewhere than it was
//! judged.
//!
//! Route in: URLs and headers, changed at random. Route out: the first that breaks a promise, with its seed. A second in
//! `cargo test`; `scripts/fuzz` continues for longer.

use super::policy::Policy;
use super::{content_range, redacted, url};
use std::time::{Duration, Instant};

const PARTS: &[&str] = &[
    "http",
    "https",
    "ftp",
    ":",
    "//",
    "/",
    "\\",
    "@",
    "#",
    "?",
    "%",
    "%00",
    "[",
    "]",
    "::1",
    "127.0.0.1",
    "0x7f.1",
    "2130706433",
    "localhost",
    "a.example",
    "user:word",
    ":80",
    ":0",
    ":65536",
    " ",
    "\t",
    "\u{e9}",
    "..",
    "-",
    "bytes ",
    "0-9/10",
    "*",
    "18446744073709551615",
    "9",
];

#[test]
fn random_urls_and_headers_break_no_promise() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let length = Duration::from_secs(variable("SHEAF_FUZZ_SECONDS").unwrap_or(1));
    let mut state = variable("SHEAF_FUZZ_SEED").unwrap_or(0x5eaf_0002).max(1);
    let seed = state;
    let mut below = |end: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % end
    };
    let base = url::parse("https://a.example:8443/dir/file?x").unwrap();
    let (begun, mut inputs, mut good) = (Instant::now(), 0_u64, 0_u64);
    while begun.elapsed() < length || inputs < 10_000 {
        let begins = ["http://", "https://", "//", "/", ""];
        let mut text = begins[below(begins.len())].to_owned();
        (0..below(7)).for_each(|_| text += PARTS[below(PARTS.len())]);
        for uri in [url::parse(&text), url::join(&base, &text)].into_iter().flatten() {
            good += 1;
            let host = uri.host().unwrap();
            assert!(!host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']), "{text}: {host}");
            assert!(matches!(uri.scheme_str(), Some("http" | "https")), "{text}");
            assert!(!uri.authority().unwrap().as_str().contains('@') && url::port(&uri) > 0, "{text}");
            // What is asked for is what was judged: its text means the same.
            assert_eq!(url::parse(&uri.to_string()).as_ref(), Ok(&uri), "{text}");
            let _ = Policy::default().judge_name(host, url::port(&uri));
        }
        assert!(
            !redacted(&text).contains(['#']) && !redacted(&format!("{text}?secret")).contains("secret"),
            "{text}"
        );
        if let Some((from, total)) = content_range(&text) {
            assert!(text.contains(&from.to_string()) || from < 10, "{text}: {from} {total:?}");
        }
        inputs += 1;
    }
    println!("URLs: seed {seed}, {inputs} inputs, {good} were URLs");
    assert!(good > inputs / 20, "{good} of {inputs}");
}
