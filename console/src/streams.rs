//! Screens and serial ports: WebSockets between a browser and `subresources.kubevirt.io`.
//!
//! Why here: the API server takes an upgrade as it takes a request, with the user's rights, and relays it to the node; the console
//! hands every byte on. What is checked before (origin, session) is in [`crate::serve`]. While it is open, the session is
//! looked at: a logout, a deleted user or twelve hours end the screen. An open screen is use: who watches a machine boot is
//! not logged out. Route in: an upgrade of a browser. Route out: one at the API server; bytes both ways.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use crate::{
    answer::{self, Answer, Refusal},
    body,
    caller::Caller,
    clock,
    proxy::Target,
    serve::State,
    upstream::As,
};

/// Between two looks at the session.
const LOOK: Duration = Duration::from_secs(10);
/// Most bytes of a refusal of the API server.
const MOST: usize = 1 << 20;
/// Headers of an upgrade that are handed on. Extensions are not: nothing between the two ends packs or unpacks.
const HANDED_ON: [HeaderName; 2] = [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION];
/// Protocols that are handed on: virtctl's, and noVNC's. Not `base64url.bearer.authorization.k8s.io.…`, by which the API
/// server takes a token.
const PROTOCOLS: [&str; 2] = ["plain.kubevirt.io", "binary"];
/// Streams at once.
static PLACES: Semaphore = Semaphore::const_new(256);

/// Opens one.
pub async fn open(
    state: &Arc<State>,
    caller: Caller,
    target: &Target,
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
) -> Result<Answer, Refusal> {
    let handed = upgrade_headers(headers)?;
    let browser = upgrade.ok_or_else(|| Refusal::bad_request("this is a WebSocket"))?;
    let place =
        PLACES.try_acquire().map_err(|_| Refusal::unavailable("too many screens are open; close one"))?;
    tracing::info!(user = %caller.user, path = target.path, "opened");
    let mut response =
        state.upstream.send(&As::caller(&caller), Method::GET, &target.path, handed, Bytes::new()).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status().as_u16();
        let text = body::bytes(response.into_body().map_err(|error| error.to_string()), MOST).await?;
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let message = value["message"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(&text).into_owned(), str::to_owned);
        return Err(Refusal::of_api(if status == 200 { 502 } else { status }, message));
    }
    let server = hyper::upgrade::on(&mut response);
    let mut answer = Response::new(answer::known(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in [header::SEC_WEBSOCKET_ACCEPT, header::SEC_WEBSOCKET_PROTOCOL] {
        if let Some(value) = response.headers().get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let state = state.clone();
    tokio::spawn(async move {
        let _place = place;
        let Ok((browser, server)) = tokio::try_join!(browser, server) else { return };
        let (mut browser, mut server) = (TokioIo::new(browser), TokioIo::new(server));
        tokio::select! {
            // An end of either side is the end of the other.
            _ = tokio::io::copy_bidirectional(&mut browser, &mut server) => {}
            () = until_invalid(&state, &caller) => {
                tracing::info!(user = %caller.user, "a screen was closed: the session has ended");
            }
        }
    });
    Ok(answer)
}

/// Returns when the session, or the token, does not count any more.
pub async fn until_invalid(state: &State, caller: &Caller) {
    while caller.is_valid(&*state.records, clock::now()) {
        caller.used(&*state.records, clock::now()).await;
        tokio::time::sleep(LOOK).await; // until the next look is due
    }
}

/// Headers of the upgrade at the API server.
fn upgrade_headers(from: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let text = |name: &HeaderName| from.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asks = text(&header::UPGRADE).eq_ignore_ascii_case("websocket")
        && text(&header::CONNECTION).split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    if !asks {
        return Err(Refusal::bad_request("this is a WebSocket"));
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    for name in HANDED_ON {
        if let Some(value) = from.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let asked = text(&header::SEC_WEBSOCKET_PROTOCOL).split(',').map(str::trim);
    if let Some(known) = asked.filter_map(|word| PROTOCOLS.into_iter().find(|known| *known == word)).next() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(known));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_upgrade_nothing_is_handed_on_but_its_own_headers() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "abc"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.eA, plain.kubevirt.io"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("cookie", "a=b"),
            ("authorization", "Bearer x"),
            ("impersonate-user", "system:admin"),
            ("origin", "https://a"),
        ] {
            from.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let handed = upgrade_headers(&from).unwrap();
        let mut names: Vec<&str> = handed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["connection", "sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version", "upgrade"]
        );
        assert_eq!(handed[header::SEC_WEBSOCKET_PROTOCOL], "plain.kubevirt.io");
        from.insert(header::UPGRADE, HeaderValue::from_static("h2c"));
        assert_eq!(upgrade_headers(&from).unwrap_err().message, "this is a WebSocket");
    }
}
