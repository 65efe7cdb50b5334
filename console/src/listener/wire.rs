//! What goes over a connection, byte by byte: headers of every answer, and requests that no browser writes.
//!
//! The API server is played by one that must not be asked.

use super::*;
use crate::{records::fake::Fake, serve::Cluster, testing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

/// What is answered to these bytes, until the connection ends.
async fn answered(bytes: &[u8]) -> String {
    let client = testing::api_server(|request| panic!("the API server was asked: {}", request.uri()));
    let state = State { records: Arc::new(Fake::default()), ..State::new(client, Cluster::default()) };
    let (ours, theirs) = duplex(1 << 20);
    let peer = Peer { address: [192, 0, 2, 1].into(), certificate: None };
    let served = tokio::spawn(sheaf_https::talk(theirs, LIMITS.head, peer, answers(Arc::new(state))));
    let (mut reading, mut writing) = tokio::io::split(ours);
    let sent = bytes.to_vec();
    let sending = tokio::spawn(async move {
        // A server that has read enough closes before all was sent.
        let _ = writing.write_all(&sent).await;
        writing
    });
    let mut answer = Vec::new();
    let whole = tokio::time::timeout(Duration::from_secs(30), reading.read_to_end(&mut answer)).await;
    whole.expect("the connection ends").unwrap();
    drop(sending);
    served.await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn asked(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    answered(
        format!(
            "{line} HTTP/1.1\r\nhost: console.example\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        )
        .as_bytes(),
    )
    .await
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("no answer")
}

#[tokio::test]
async fn every_answer_has_the_policy_whatever_was_asked_and_nothing_of_it_is_stored() {
    for (line, headers, body, expected) in [
        ("GET /healthz", "", "", "200"),
        ("GET /", "", "", "200"),
        ("GET /nothing.js", "", "", "404"),
        ("POST /", "", "", "405"),
        ("GET /console/session", "", "", "401"),
        ("GET /console/metrics?cluster", "", "", "401"),
        ("GET /console/metrics?x", "", "", "400"),
        ("GET /console/nothing", "", "", "404"),
        ("POST /console/login", "content-type: text/plain\r\n", "{}", "400"),
        ("POST /console/login", "content-type: application/json\r\n", "{", "400"),
        (
            "POST /console/login",
            "content-type: application/json\r\norigin: https://evil.example\r\n",
            "{}",
            "403",
        ),
        ("POST /console/second", "content-type: application/json\r\n", "{}", "401"),
        ("DELETE /console/users/bob/second", "", "", "401"),
        ("GET /api/api/v1/secrets", "", "", "404"),
        ("GET /api/api/v1/nodes", "", "", "401"),
        ("GET /api/%2e%2e/x", "", "", "400"),
    ] {
        let answer = asked(line, headers, body).await;
        assert_eq!(code(&answer), expected, "{line}: {answer}");
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; ",
            "x-frame-options: DENY",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
            "strict-transport-security: max-age=31536000",
            "cache-control: ",
        ] {
            assert!(head.to_lowercase().contains(&header.to_lowercase()), "{line}: {header}: {head}");
        }
        let is_page = line.starts_with("GET /") && !line.starts_with("GET /console") && expected == "200";
        assert!(is_page || head.contains("cache-control: no-store"), "{line}: {head}");
        assert!(!head.contains("access-control-allow"), "{line}: {head}");
    }
}

#[tokio::test]
async fn requests_that_two_programs_could_read_differently_are_refused() {
    let post = "POST /console/login HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    for (what, bytes) in [
        ("two lengths", format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef")),
        ("a length that is no number", format!("{post}content-length: +5\r\n\r\nabcde")),
        (
            "an encoding of the transfer that is not chunked",
            format!("{post}transfer-encoding: gzip\r\n\r\nabc"),
        ),
        ("a space before the colon", format!("{post}content-length : 5\r\n\r\nabcde")),
        ("a header that is folded", format!("{post}x-a: b\r\n c\r\n\r\n")),
        ("a NUL in a header", format!("{post}x-a: b\0c\r\n\r\n")),
        ("a space in the path", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        ("another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
    ] {
        let answer = answered(bytes.as_bytes()).await;
        assert!(["400", "no answer"].contains(&code(&answer)), "{what}: {answer}");
    }
}

#[tokio::test]
async fn heads_are_bounded_and_bodies_are_not_unpacked() {
    let many: String = (0..200).map(|number| format!("x-{number}: a\r\n")).collect();
    assert_eq!(code(&asked("GET /", &many, "").await), "431");
    let long = format!("x-a: {}\r\n", "a".repeat(1 << 20));
    assert_eq!(code(&asked("GET /", &long, "").await), "431");
    let path = format!("GET /api/{}", "a".repeat(5000));
    assert!(asked(&path, "", "").await.contains("the path is too long"));
    // What is packed is taken for what it is: the bytes are no JSON.
    let packed = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    assert_eq!(code(&asked("POST /console/login", packed, "\x1f\x08\0\0").await), "400");
    let large = "a".repeat((64 << 10) + 1);
    let json = "content-type: application/json\r\n";
    assert_eq!(code(&asked("POST /console/login", json, &large).await), "413");
}
