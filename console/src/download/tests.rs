//! Downloads from a controller that is played: what it is asked, what is handed back, and that what breaks off has no end.

use super::*;
use crate::{
    caller::By,
    records::Kind,
    testing::{self, PlayedController, Then},
};
use serde_json::json;
use std::{sync::Mutex, time::Duration};

/// A console with alice, who has logged in, and a controller that does `then`.
struct Ground {
    state: Arc<State>,
    alice: Caller,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Ground {
    async fn make(then: Then, phase: &'static str, may_read: bool) -> Self {
        let client = testing::api_server(move |request| {
            assert_eq!(request.headers()["impersonate-user"], "console:alice");
            let export = json!({"status": {"phase": phase, "tokenSecretRef": "secret-away", "conditions": [
                {"type": "Ready", "status": "False", "message": "Virtual Machine shop/web is running"}]}});
            match (request.uri().path(), may_read) {
                ("/apis/export.kubevirt.io/v1beta1/namespaces/shop/virtualmachineexports/away", _) => {
                    Ok((200, export.to_string()))
                }
                ("/api/v1/namespaces/shop/secrets/secret-away", true) => {
                    Ok((200, json!({"data": {"token": "dG9rZW4="}}).to_string()))
                }
                (path, _) => Ok((403, json!({"message": format!("{path} is forbidden")}).to_string())),
            }
        });
        let played = PlayedController::new(then);
        let sent = played.sent.clone();
        let (state, alice) = testing::with_alice(client, played).await;
        Self { state, alice, sent }
    }

    async fn download(&self, format: Format, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let owned = str::to_owned;
        let wanted =
            Wanted { project: owned("shop"), export: owned("away"), volume: owned("web-root"), format };
        download(&self.state, self.alice.clone(), &wanted, headers).await
    }
}

#[tokio::test]
async fn a_disk_is_read_with_the_users_token_and_saved_under_its_name() {
    const PART: &str = "HTTP/1.1 206 Partial Content\r\ncontent-type: application/octet-stream\r\ncontent-length: 5\r\n\
        content-range: bytes 5-9/10\r\netag: \"a\"\r\nset-cookie: x=y\r\n\r\n56789";
    let on = Ground::make(Then::Answer(0, PART), "Ready", true).await;
    let mut headers = HeaderMap::new();
    headers.insert(header::RANGE, HeaderValue::from_static("bytes=5-"));
    headers.insert(header::COOKIE, HeaderValue::from_static("secret"));
    let answer = on.download(Format::Raw, &headers).await.unwrap();
    assert_eq!(answer.status(), 206);
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"web-root.img\"");
    assert_eq!(answer.headers()["content-range"], "bytes 5-9/10");
    assert!(!answer.headers().contains_key("set-cookie"));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "56789");
    let sent = String::from_utf8(on.sent.lock().unwrap().clone()).unwrap();
    let mut lines: Vec<&str> = sent.trim_end().lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "GET /api/export.kubevirt.io/v1/namespaces/shop/virtualmachineexports/away/volumes/web-root/disk.img HTTP/1.1",
            "host: sheaf-controller.sheaf-system.svc",
            "range: bytes=5-",
            "x-kubevirt-export-token: token",
        ]
    );
}

#[tokio::test]
async fn an_export_that_waits_and_a_user_who_may_not_read_the_token_get_nothing() {
    let on = Ground::make(Then::Break, "Pending", true).await;
    let refusal = on.download(Format::Raw, &HeaderMap::new()).await.unwrap_err();
    let waits = "the export away is not ready: Virtual Machine shop/web is running";
    assert_eq!((refusal.code, refusal.message.as_str()), (409, waits));
    let on = Ground::make(Then::Break, "Ready", false).await;
    let refusal = on.download(Format::Raw, &HeaderMap::new()).await.unwrap_err();
    let denied = "/api/v1/namespaces/shop/secrets/secret-away is forbidden";
    assert_eq!((refusal.code, refusal.message.as_str()), (403, denied));
}

#[tokio::test]
async fn a_refusal_is_sheaf_controllers() {
    const GONE: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 55\r\n\r\n{\"message\": \"the export is not ready; it is used, too\"}";
    const TOKEN: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}";
    const NODE: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}";
    for (answer, code, message) in [
        (GONE, 404, "the export is not ready; it is used, too"),
        (TOKEN, 409, "the token of the export does not fit; make another export"),
        (NODE, 503, "sheaf-controller refuses the download"),
    ] {
        let on = Ground::make(Then::Answer(0, answer), "Ready", true).await;
        let refusal = on.download(Format::Gzip, &HeaderMap::new()).await.unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_stalls_or_is_not_taken_is_cut_and_frees_its_place() {
    const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234";
    const HALF: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n";
    let on = Ground::make(Then::Answer(0, CUT), "Ready", true).await;
    let answer = on.download(Format::Raw, &HeaderMap::new()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap_err().to_string(), "the download was cut");
    // The node is silent in the middle; the length is not known.
    let on = Ground::make(Then::AnswerAtOnce(HALF), "Ready", true).await;
    let answer = on.download(Format::Gzip, &HeaderMap::new()).await.unwrap();
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"web-root.img.gz\"");
    assert_eq!(answer.into_body().collect().await.unwrap_err().to_string(), "the download was cut");
    assert_eq!(on.state.downloads.0.available_permits(), MOST);
    // The head does not come at all.
    let on = Ground::make(Then::Stall, "Ready", true).await;
    let refusal = on.download(Format::Raw, &HeaderMap::new()).await.unwrap_err();
    assert_eq!((refusal.code, refusal.message.as_str()), (503, "the node did not answer within 120 s"));
}

#[tokio::test(start_paused = true)]
async fn a_logout_cuts_a_download() {
    const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234";
    let on = Ground::make(Then::AnswerAtOnce(HALF), "Ready", true).await;
    let answer = on.download(Format::Raw, &HeaderMap::new()).await.unwrap();
    let By::Session(id) = &on.alice.by else { panic!() };
    on.state.records.delete(Kind::Session, id).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(answer.into_body().collect().await.unwrap_err().to_string(), "the download was cut");
    assert!(begun.elapsed() < Duration::from_secs(11), "at the next look at the session");
}
