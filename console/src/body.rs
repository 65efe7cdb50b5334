//! Bodies of requests: bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::answer::Refusal;

/// Longest time for the body of a request.
const TIME: Duration = Duration::from_secs(20);
/// Most bytes of a body for the console itself: names and passwords.
const MOST_OWN: usize = 64 << 10;
/// Most bytes for the API server: what it takes itself (3 MiB).
pub const MOST_API: usize = 3 << 20;

/// The bytes, `most` of them.
pub async fn bytes<B>(body: B, most: usize) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match tokio::time::timeout(TIME, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::too_large(format!("the body has more than {most} bytes")))
        }
        Ok(Err(error)) => Err(Refusal::bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Refusal::bad_request(format!("the body did not come within {} s", TIME.as_secs()))),
    }
}

/// JSON of a shape. Its type must be named: forms of other pages cannot name it.
pub async fn json<T: DeserializeOwned, B>(headers: &HeaderMap, body: B) -> Result<T, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Refusal::bad_request("the body must be application/json"));
    }
    let bytes = bytes(body, MOST_OWN).await?;
    serde_json::from_slice(&bytes).map_err(|error| Refusal::bad_request(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http_body_util::Full;

    #[tokio::test]
    async fn a_body_that_is_too_large_or_of_another_type_is_refused() {
        let large = Full::new(Bytes::from(vec![b' '; MOST_OWN + 1]));
        let mut headers = HeaderMap::new();
        let refused = json::<serde_json::Value, _>(&headers, large.clone()).await.unwrap_err();
        assert_eq!(refused.message, "the body must be application/json");
        for form in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
            let refused = json::<serde_json::Value, _>(&headers, large.clone()).await.unwrap_err();
            assert_eq!(refused.code, 400, "{form}");
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let refused = json::<serde_json::Value, _>(&headers, large).await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (413, "the body has more than 65536 bytes"));
        let fine = Full::new(Bytes::from_static(b"{\"a\": 1}"));
        assert_eq!(json::<serde_json::Value, _>(&headers, fine).await.unwrap()["a"], 1);
    }
}
