//! Requests to the API server as one of the console's users.
//!
//! Why here: the only place that writes `Impersonate-*`. A request is built from nothing: no header of a browser reaches the API
//! server unless it is named in [`crate::proxy`]. The audit log there has the user, the console's identity, and by
//! `X-Forwarded-For` the browser's address. Route in: user, method, path. Route out: the API server's answer.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::Value;

use crate::{
    answer::Refusal,
    body,
    caller::Caller,
    names::{CLAIM_USER, GROUP, USER_PREFIX},
};

/// Longest time until the API server begins to answer: it gives up after 60 s.
const ANSWER_TIME: Duration = Duration::from_secs(65);
/// Most bytes of an answer that the console itself reads.
const MOST: usize = 16 << 20;

/// As whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct As {
    user: String,
    address: IpAddr,
}

impl As {
    /// The user behind a request.
    pub fn caller(caller: &Caller) -> Self {
        Self { user: format!("{USER_PREFIX}{}", caller.user), address: caller.address }
    }

    /// Who makes the first administrator.
    pub fn claim(address: IpAddr) -> Self {
        Self { user: CLAIM_USER.to_owned(), address }
    }
}

/// The API server.
#[derive(Clone)]
pub struct Upstream(Client);

impl Upstream {
    /// By the console's own credentials.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// `method` on `path` (with its query), with these headers besides.
    pub async fn send(
        &self,
        who: &As,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Refusal> {
        let request = request(who, method, path, headers, body)?;
        let answer = tokio::time::timeout(ANSWER_TIME, self.0.send(request)).await;
        let silent = || {
            Refusal::unavailable(format!("the API server did not answer within {} s", ANSWER_TIME.as_secs()))
        };
        answer.map_err(|_| silent())?.map_err(|error| {
            tracing::warn!("asking the API server: {error}");
            Refusal::unavailable(format!("the API server does not answer: {error}"))
        })
    }

    /// [`Upstream::send`] with JSON both ways; an answer that is a failure is a refusal in its words.
    pub async fn json(
        &self,
        who: &As,
        method: Method,
        path: &str,
        value: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let mut headers = HeaderMap::new();
        let (kind, sent) = match value {
            Some(value) if method == Method::PATCH => ("application/merge-patch+json", value.to_string()),
            Some(value) => ("application/json", value.to_string()),
            None => ("application/json", String::new()),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self.send(who, method, path, headers, Bytes::from(sent)).await?;
        let status = answer.status();
        let bytes = body::bytes(answer.into_body().map_err(|error| error.to_string()), MOST)
            .await
            .map_err(|refusal| Refusal::unavailable(format!("the API server's answer: {refusal}")))?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match status.is_success() {
            true => Ok(value),
            false => {
                let message = value["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
                Err(Refusal::of_api(status.as_u16(), message))
            }
        }
    }
}

/// The request, with nothing in it but what is given.
fn request(
    who: &As,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Body>, Refusal> {
    let mut request = Request::builder().method(method).uri(path).body(Body::from(body));
    if let Ok(request) = &mut request {
        *request.headers_mut() = headers;
        for (name, value) in [
            ("impersonate-user", who.user.as_str()),
            ("impersonate-group", GROUP),
            ("x-forwarded-for", &who.address.to_canonical().to_string()),
        ] {
            let value = HeaderValue::from_str(value).map_err(Refusal::internal)?;
            // Never beside one that is there.
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    request.map_err(|error| Refusal::bad_request(format!("the path: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::By;
    use crate::testing;

    fn alice() -> Caller {
        Caller {
            user: testing::user("alice").name,
            by: By::Session("x".into()),
            address: [192, 0, 2, 9].into(),
        }
    }

    #[test]
    fn a_request_is_made_as_the_user_and_nobody_else_can_be_named_in_it() {
        let mut headers = HeaderMap::new();
        headers.append("impersonate-user", HeaderValue::from_static("system:admin"));
        headers.append("impersonate-group", HeaderValue::from_static("system:masters"));
        let made =
            request(&As::caller(&alice()), Method::GET, "/api/v1/nodes?limit=1", headers, Bytes::new())
                .unwrap();
        let all = |name: &str| {
            made.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(all("impersonate-user"), ["console:alice"]);
        assert_eq!(all("impersonate-group"), ["console:users"]);
        assert_eq!(all("x-forwarded-for"), ["192.0.2.9"]);
        assert_eq!(made.uri(), "/api/v1/nodes?limit=1");
        let claim =
            request(&As::claim([192, 0, 2, 9].into()), Method::GET, "/", HeaderMap::new(), Bytes::new())
                .unwrap();
        assert_eq!(claim.headers()["impersonate-user"], "console:.claim");
    }

    #[tokio::test]
    async fn refusals_come_in_the_api_servers_words_and_its_absence_is_said() {
        let played = testing::api_server(|request| {
            let answer = |code: u16, text: &str| Ok((code, text.to_owned()));
            match request.uri().path() {
                "/denied" => {
                    answer(403, r#"{"message": "nodes is forbidden: User \"console:alice\" cannot list"}"#)
                }
                "/odd" => answer(500, "not json"),
                "/away" => Err("connection refused".to_owned()),
                _ => answer(200, r#"{"a": 1}"#),
            }
        });
        let upstream = Upstream::new(played);
        let ask = async |path: &str| upstream.json(&As::caller(&alice()), Method::GET, path, None).await;
        assert_eq!(ask("/fine").await.unwrap()["a"], 1);
        let denied = ask("/denied").await.unwrap_err();
        assert_eq!((denied.code, denied.reason), (403, "Forbidden"));
        assert_eq!(denied.message, "nodes is forbidden: User \"console:alice\" cannot list");
        assert_eq!(ask("/odd").await.unwrap_err().message, "500 Internal Server Error");
        let away = ask("/away").await.unwrap_err();
        assert_eq!(away.code, 503);
        assert!(away.message.starts_with("the API server does not answer: "), "{away}");
        let body = away.answer().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["reason"], "ServiceUnavailable");
    }
}
