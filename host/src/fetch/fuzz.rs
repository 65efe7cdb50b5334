//! Whatever a tenant writes as a URL and a server as its answer: nothing panics, and no URL leads elsewhere than it was
//! judged.
//!
//! Route in: URLs and answers, changed at random. Route out: [`sheaf_fuzz`].

use super::policy::{Policy, Rule};
use super::tests::Names;
use super::{Fetch as _, Http, Source, content_range, redacted, url};
use sheaf_fuzz::fuzz;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    let base = url::parse("https://a.example:8443/dir/file?x").unwrap();
    fuzz("URLs and Content-Range", |random| {
        let mut text = (*random.of(&["http://", "https://", "//", "/", ""])).to_owned();
        (0..random.below(7)).for_each(|_| text += random.of::<&str>(PARTS));
        let mut is_url = false;
        for uri in [url::parse(&text), url::join(&base, &text)].into_iter().flatten() {
            is_url = true;
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
        is_url
    });
}

/// A server that answers each connection with what `answer` holds then, and closes it.
fn server(answer: Arc<Mutex<Vec<u8>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
            // A client that is gone already has its answer.
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&answer.lock().unwrap());
        }
    });
    port
}

#[test]
fn no_answer_of_a_server_panics_or_leads_to_another_one() {
    const WORDS: &[&str] = &[
        "\r\n",
        "\r\n\r\n",
        "\n",
        ": ",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        "Content-Range: bytes 0-9/10\r\n",
        "bytes 4-9/*",
        "18446744073709551615",
        "-1",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.0 200\r\n",
        "http://169.254.169.254/",
        "//localhost:1/",
        "https://",
        "\u{0}",
        "\u{e9}",
        "Connection: keep-alive\r\n",
    ];
    let answer = Arc::new(Mutex::new(Vec::new()));
    let port = server(answer.clone());
    // Every name is this machine's, and one port of it is allowed: what leads elsewhere is refused, not tried.
    let http = Http::silent_for(Duration::from_secs(5)).resolving_by(Names::new(&[&["127.0.0.1"]]));
    let rule = Rule { networks: vec!["127.0.0.1/32".parse().unwrap()], ports: vec![port], ..Rule::default() };
    let policy = Arc::new(Policy { allow: vec![rule], ..Policy::default() });
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789".to_owned(),
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789"
            .to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"
            .to_owned(),
        format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/again\r\nContent-Length: 0\r\n\r\n"),
        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    fuzz("answers of HTTP servers", |random| {
        let bytes = {
            let mut bytes = random.of(&answers).clone().into_bytes();
            random.change(&mut bytes, WORDS);
            bytes
        };
        answer.lock().unwrap().clone_from(&bytes);
        let from = *random.of(&[0, 4]);
        let source = Source {
            url: format!("http://127.0.0.1:{port}/file"),
            policy: policy.clone(),
            access: Default::default(),
        };
        match http.fetch(&source, from) {
            Ok(rest) => {
                assert!(rest.from == 0 || rest.from == from);
                let mut body = Vec::new();
                // An answer that breaks off is an error of the reader.
                let _ = rest.reader.take(1 << 20).read_to_end(&mut body);
                assert!(body.len() <= bytes.len(), "{} of {}", body.len(), bytes.len());
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
        }
    });
}
