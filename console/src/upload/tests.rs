//! Uploads to a controller that is played: what it is sent, and what the browser reads when it stalls, breaks, refuses.

use super::*;
use crate::{
    caller::By,
    records::Kind,
    testing::{self, PlayedController, Then},
};
use http_body_util::{Full, StreamBody};
use std::sync::Mutex;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const FILE: &str = "application/octet-stream";

/// A console with alice, who has logged in, and a controller that does `then`.
struct Ground {
    state: Arc<State>,
    alice: Caller,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Ground {
    /// `asked`: what the API server answers to the request for a token.
    async fn make(then: Then, asked: (u16, &'static str)) -> Self {
        let client = testing::api_server(move |request| {
            assert_eq!(request.headers()["impersonate-user"], "console:alice");
            let path = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/shop/uploadtokenrequests";
            assert_eq!((request.method(), request.uri().path()), (&Method::POST, path));
            Ok((asked.0, asked.1.to_owned()))
        });
        let played = PlayedController::new(then);
        let sent = played.sent.clone();
        let (state, alice) = testing::with_alice(client, played).await;
        Self { state, alice, sent }
    }

    async fn playing(then: Then) -> Self {
        Self::make(then, (201, r#"{"status": {"token": "a.b.c"}}"#)).await
    }

    async fn upload<B: RequestBody>(&self, headers: &HeaderMap, body: B) -> Result<Answer, Refusal> {
        let volume = Volume { project: "shop".into(), name: "disk".into() };
        upload(&self.state, &self.alice, &volume, headers, body).await
    }
}

fn headers(bytes: &str) -> HeaderMap {
    let pairs = [(header::CONTENT_TYPE, FILE), (header::CONTENT_LENGTH, bytes)];
    pairs.into_iter().map(|(name, value)| (name, HeaderValue::from_str(value).unwrap())).collect()
}

fn image(bytes: usize) -> Full<Bytes> {
    Full::new(Bytes::from(vec![7; bytes]))
}

/// Some bytes, and then nothing.
fn silent() -> impl RequestBody {
    use futures::StreamExt as _;
    let first =
        futures::stream::once(async { Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"QFI"))) });
    StreamBody::new(first.chain(futures::stream::pending()))
}

#[tokio::test]
async fn an_image_arrives_as_it_is_with_the_token_of_its_user_and_its_length() {
    let bytes = 100 << 10;
    let on = Ground::playing(Then::Answer(bytes, OK)).await;
    let answer = on.upload(&headers(&bytes.to_string()), image(bytes)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let sent = on.sent.lock().unwrap().clone();
    let end = sent.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(sent[..end].to_vec()).unwrap();
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "POST /v1beta1/upload HTTP/1.1",
            "authorization: Bearer a.b.c",
            "content-length: 102400",
            "content-type: application/octet-stream",
            "host: sheaf-controller.sheaf-system.svc",
        ]
    );
    assert_eq!(sent[end..], vec![7; bytes]);
    assert!(on.state.uploads.are_free(), "its place is free");
}

#[tokio::test]
async fn what_is_no_file_or_has_no_length_or_too_much_is_refused_before_anything_is_asked() {
    let on = Ground::make(Then::Break, (500, "nothing is asked")).await;
    let as_it_is = "send the file as it is, as application/octet-stream";
    let no_length = "send Content-Length: a truncated image could not be detected without it";
    let mut packed = headers("9");
    packed.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let mut form = headers("9");
    form.insert(header::CONTENT_TYPE, HeaderValue::from_static("multipart/form-data"));
    let mut chunked = headers("9");
    chunked.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    for (headers, code, message) in [
        (packed, 400, as_it_is),
        (form, 400, as_it_is),
        (chunked, 400, no_length),
        (headers("many"), 400, no_length),
        (headers("0"), 422, "the file is empty; choose another one"),
        (headers("17592186044417"), 413, "an image has at most 16 TiB"),
    ] {
        let refusal = on.upload(&headers, image(9)).await.unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
    }
}

#[tokio::test]
async fn who_may_not_upload_reads_it_in_the_words_of_the_api_server() {
    let denied = r#"{"message": "uploadtokenrequests is forbidden: User \"console:alice\" cannot create"}"#;
    let on = Ground::make(Then::Break, (403, denied)).await;
    let refusal = on.upload(&headers("9"), image(9)).await.unwrap_err();
    assert_eq!(refusal.code, 403);
    assert!(refusal.message.starts_with("uploadtokenrequests is forbidden: "), "{refusal}");
    let on = Ground::make(Then::Break, (201, "{}")).await;
    let refusal = on.upload(&headers("9"), image(9)).await.unwrap_err();
    assert_eq!(refusal.message, "sheaf-controller gave no token for the upload; try again");
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_end_of_the_image_is_the_answer_in_the_nodes_words() {
    const LARGE: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 36\r\n\r\nthe image is larger than the volume\n";
    const FILLED: &str =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 32\r\n\r\nthe claim disk is filled already\n";
    const ENDED: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 22\r\n\r\nthe token is not valid";
    for (answer, code, message) in [
        (LARGE, 422, "the image is larger than the volume"),
        (FILLED, 409, "the claim disk is filled already"),
        (ENDED, 503, "sheaf-controller refuses the upload: the token is not valid"),
    ] {
        let on = Ground::playing(Then::AnswerAtOnce(answer)).await;
        let refusal = on.upload(&headers("1048576"), image(1 << 20)).await.unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (code, message));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_nothing_and_a_browser_that_sends_nothing_end_the_upload() {
    let on = Ground::playing(Then::Stall).await;
    let refusal = on.upload(&headers("1048576"), image(1 << 20)).await.unwrap_err();
    // The one piece was handed on; the rest of the time is the node's.
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (503, "the node did not fill the volume within 2 h")
    );
    let pieces = (0..64).map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![7; 64 << 10]))));
    let refusal =
        on.upload(&headers("4194304"), StreamBody::new(futures::stream::iter(pieces))).await.unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (503, "the node took nothing for 120 s; send the image again")
    );
    let on = Ground::playing(Then::Answer(100, OK)).await;
    let refusal = on.upload(&headers("100"), silent()).await.unwrap_err();
    let silent = "the browser sent nothing for 120 s; send the image again";
    assert_eq!((refusal.code, refusal.message.as_str()), (400, silent));
    assert!(on.state.uploads.are_free(), "its place is free");
}

#[tokio::test]
async fn a_connection_that_breaks_and_a_browser_that_goes_are_said() {
    let on = Ground::playing(Then::Break).await;
    let refusal = on.upload(&headers("1048576"), image(1 << 20)).await.unwrap_err();
    assert_eq!(refusal.code, 503);
    assert!(refusal.message.starts_with("the connection to sheaf-controller broke: "), "{refusal}");
    let on = Ground::playing(Then::Answer(100, OK)).await;
    let gone = futures::stream::iter([Err::<Frame<Bytes>, _>(std::io::Error::other("connection reset"))]);
    let refusal = on.upload(&headers("100"), StreamBody::new(gone)).await.unwrap_err();
    assert_eq!(refusal.message, "the image did not come whole: connection reset; send it again");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_session_is_the_end_of_the_upload() {
    let on = Ground::playing(Then::Answer(100, OK)).await;
    let By::Session(id) = &on.alice.by else { panic!() };
    let record = on.state.records.get(Kind::Session, id).unwrap();
    let logout = async {
        tokio::time::sleep(Duration::from_secs(15)).await; // while it is under way
        on.state.records.delete(Kind::Session, &record.name).await.unwrap();
    };
    let headers = headers("100");
    let (refused, ()) = tokio::join!(on.upload(&headers, silent()), logout);
    let refusal = refused.unwrap_err();
    let ended = "the session has ended, and the upload with it; log in and send the image again";
    assert_eq!((refusal.code, refusal.message.as_str()), (401, ended));
}

#[test]
fn one_user_has_four_uploads_and_all_have_sixteen() {
    let uploads = places();
    let take = |user: &str| uploads.take(user.to_owned()).map_err(busy);
    let mut held: Vec<_> = (0..4).map(|_| take("alice").unwrap()).collect();
    let refusal = take("alice").err().unwrap();
    let own = "4 uploads of yours are under way; wait until one has ended, or cancel it";
    assert_eq!((refusal.code, refusal.message.as_str()), (409, own));
    for user in ["bob", "carol", "dave"] {
        held.extend((0..4).map(|_| take(user).unwrap()));
    }
    let refusal = take("erin").err().unwrap();
    assert_eq!((refusal.code, refusal.message.as_str()), (503, "16 uploads are under way; try again later"));
    drop(held);
    assert!(take("alice").is_ok());
    assert!(uploads.are_free());
}
