//! The order of the checks, with records in memory and an API server that is played.

use super::*;
use crate::{
    cookie,
    records::{Kind, Record, fake::Fake},
    second, session, testing, totp,
    users::User,
};
use http_body_util::Full;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const PASSWORD: &str = "correct horse battery";

/// A console with the user alice, and how often its API server was asked.
struct Ground {
    state: Arc<State>,
    asked: Arc<AtomicUsize>,
}

impl Ground {
    async fn make() -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let client = testing::api_server(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            let headers = request.headers();
            let seen = json!({
                "as": headers["impersonate-user"].to_str().unwrap(), "path": request.uri().to_string(),
                "method": request.method().as_str(), "headers": headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
            });
            match request.uri().path() {
                "/api/v1/namespaces/unauthorized" => Ok((401, "{}".into())),
                "/api/v1/namespaces/none" => Ok((404, json!({"kind": "Status", "code": 404}).to_string())),
                "/api/v1/namespaces/unserved" => Ok((404, "404 page not found\n".into())),
                _ => Ok((200, seen.to_string())),
            }
        });
        let state = State { records: Arc::new(Fake::default()), ..State::new(client, Cluster::default()) };
        let password = state.passwords.hash("alice", PASSWORD).await.unwrap();
        let alice = User { password: Some(password), ..testing::user("alice") };
        state.records.create(Record::new(Kind::User, "alice", &alice).unwrap()).await.unwrap();
        Self { state: Arc::new(state), asked }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        pairs: &[(&str, &str)],
        body: &Value,
    ) -> (u16, Value, HeaderMap) {
        let mut request = Request::builder().method(method).uri(path).header("host", "console.example");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer =
            answer(&self.state, HERE, request, None).await.unwrap_or_else(|refusal| refusal.answer());
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or_default(), parts.headers)
    }

    async fn log_in(&self, password: &str) -> (u16, Value, HeaderMap) {
        let typed = json!({"user": "alice", "password": password});
        self.ask(Method::POST, "/console/login", &[JSON], &typed).await
    }

    async fn cookie(&self) -> String {
        let (code, said, headers) = self.log_in(PASSWORD).await;
        assert_eq!(code, 200, "{said}");
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const OWN: [(&str, &str); 2] = [("origin", "https://console.example"), ("x-sheaf-console", "1")];
const VMS: &str = "/api/apis/kubevirt.io/v1/namespaces/shop/virtualmachines";

#[tokio::test]
async fn a_user_logs_in_asks_as_himself_and_logs_out() {
    let on = Ground::make().await;
    let cookie = on.cookie().await;
    let (code, said, _) = on.ask(Method::GET, VMS, &[("cookie", &cookie)], &Value::Null).await;
    assert_eq!((code, said["as"].as_str()), (200, Some("console:alice")));
    assert_eq!(said["path"], "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines");
    let mut names: Vec<&str> = said["headers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "impersonate-group", "impersonate-user", "x-forwarded-for"]);
    let (_, said, _) = on.ask(Method::GET, "/console/session", &[("cookie", &cookie)], &Value::Null).await;
    assert_eq!((&said["user"], &said["kubernetesUser"]), (&json!("alice"), &json!("console:alice")));
    let with = [&[("cookie", cookie.as_str())][..], &OWN].concat();
    let (code, _, headers) = on.ask(Method::POST, "/console/logout", &with, &Value::Null).await;
    assert_eq!((code, headers[header::SET_COOKIE].clone()), (204, cookie::clear()));
    let (code, said, _) = on.ask(Method::GET, VMS, &[("cookie", &cookie)], &Value::Null).await;
    assert_eq!((code, said["message"].as_str()), (401, Some("the session has ended; log in again")));
}

#[tokio::test]
async fn nothing_reaches_the_api_server_from_who_is_nobody_or_from_another_page() {
    let on = Ground::make().await;
    let cookie = on.cookie().await;
    let cookie = ("cookie", cookie.as_str());
    let (own, header) = (OWN[0], OWN[1]);
    let delete = format!("{VMS}/web");
    let vnc = "/api/apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachineinstances/web/vnc";
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    for (method, path, pairs, code, message) in [
        (Method::GET, VMS, vec![], 401, "log in first"),
        (
            Method::GET,
            VMS,
            vec![("cookie", "__Host-sheaf-session=abc")],
            401,
            "the session has ended; log in again",
        ),
        (
            Method::GET,
            VMS,
            vec![("authorization", "Bearer abc")],
            401,
            "the token is not valid, or has ended",
        ),
        // The cookie does not save a token that is none.
        (
            Method::GET,
            VMS,
            vec![cookie, ("authorization", "Bearer abc")],
            401,
            "the token is not valid, or has ended",
        ),
        (
            Method::DELETE,
            &delete,
            vec![cookie],
            403,
            "a request with a session's cookie must name its origin",
        ),
        (
            Method::DELETE,
            &delete,
            vec![cookie, own],
            403,
            "a change by a session needs the header X-Sheaf-Console",
        ),
        (
            Method::DELETE,
            &delete,
            vec![cookie, header, ("origin", "https://evil.example")],
            403,
            "this request was caused by a page of another origin",
        ),
        (
            Method::GET,
            VMS,
            vec![cookie, ("sec-fetch-site", "cross-site")],
            403,
            "this request was caused by a page of another site",
        ),
        (
            Method::POST,
            "/console/upload/shop/disk",
            vec![cookie, own],
            403,
            "a change by a session needs the header X-Sheaf-Console",
        ),
        (
            Method::GET,
            "/console/download/shop/away/disk/disk.img",
            vec![cookie, ("sec-fetch-site", "cross-site")],
            403,
            "this request was caused by a page of another site",
        ),
        (
            Method::GET,
            vnc,
            [&[cookie][..], &upgrade].concat(),
            403,
            "a request with a session's cookie must name its origin",
        ),
        (
            Method::GET,
            vnc,
            [&[cookie, ("origin", "https://evil.example")][..], &upgrade].concat(),
            403,
            "this request was caused by a page of another origin",
        ),
        (
            Method::POST,
            "/console/login",
            vec![JSON, ("origin", "https://evil.example")],
            403,
            "this request was caused by a page of another origin",
        ),
        (
            Method::GET,
            "https://other.example/console/session",
            vec![cookie],
            400,
            "a request names a path, not another host",
        ),
    ] {
        let (found, said, _) = on.ask(method.clone(), path, &pairs, &Value::Null).await;
        assert_eq!((found, said["message"].as_str()), (code, Some(message)), "{method} {path} {pairs:?}");
    }
    assert_eq!(on.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_are_answered_alike_and_after_five_one_waits() {
    let on = Ground::make().await;
    let unknown = json!({"user": "nobody", "password": PASSWORD});
    let (code, said, _) = on.ask(Method::POST, "/console/login", &[JSON], &unknown).await;
    let wrong = on.log_in("wrong password").await;
    assert_eq!((code, &said), (wrong.0, &wrong.1));
    assert_eq!((code, said["message"].as_str()), (401, Some("the name or the password is wrong")));
    for _ in 0..4 {
        on.log_in("wrong password").await;
    }
    let (code, said, headers) = on.log_in(PASSWORD).await;
    assert_eq!(code, 429, "{said}: even the right one waits");
    assert!(headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_user_who_is_disabled_or_without_a_password_does_not_get_in() {
    let on = Ground::make().await;
    let mut record = on.state.records.get(Kind::User, "alice").unwrap();
    let cookie = on.cookie().await;
    record.data["disabled"] = json!(true);
    on.state.records.replace(record.clone()).await.unwrap();
    assert_eq!(on.log_in(PASSWORD).await.0, 401);
    assert_eq!(on.ask(Method::GET, VMS, &[("cookie", &cookie)], &Value::Null).await.0, 401);
    let mut record = on.state.records.get(Kind::User, "alice").unwrap();
    record.data["disabled"] = json!(false);
    record.data["password"] = Value::Null;
    on.state.records.replace(record).await.unwrap();
    assert_eq!(on.log_in("").await.0, 401);
    assert_eq!(on.log_in(PASSWORD).await.0, 401);
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_all_other_sessions_and_tokens() {
    let on = Ground::make().await;
    let (here, elsewhere) = (on.cookie().await, on.cookie().await);
    let with = [&[("cookie", here.as_str()), JSON][..], &OWN].concat();
    let wanted = json!({"label": "backup", "days": 1});
    let (code, said, _) = on.ask(Method::POST, "/console/tokens", &with, &wanted).await;
    assert_eq!(code, 201);
    let bearer = format!("Bearer {}", said["token"].as_str().unwrap());
    let by_token = [("authorization", bearer.as_str())];
    assert_eq!(on.ask(Method::GET, VMS, &by_token, &Value::Null).await.1["as"], "console:alice");
    let change = |old: &str, new: &str| json!({"old": old, "new": new});
    let ask = async |body: Value| on.ask(Method::POST, "/console/password", &with, &body).await;
    let (code, said, _) = ask(change("wrong password", "another long one")).await;
    assert_eq!((code, said["message"].as_str()), (403, Some("the old password is wrong")));
    let (code, said, _) = ask(change(PASSWORD, "short")).await;
    assert_eq!((code, said["message"].as_str()), (422, Some("a password has at least 12 characters")));
    let (code, _, headers) = ask(change(PASSWORD, "another long one")).await;
    assert_eq!(code, 200);
    for ended in [&here, &elsewhere] {
        assert_eq!(on.ask(Method::GET, VMS, &[("cookie", ended)], &Value::Null).await.0, 401);
    }
    assert_eq!(on.ask(Method::GET, VMS, &by_token, &Value::Null).await.0, 401);
    let new = headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
    assert_eq!(on.ask(Method::GET, VMS, &[("cookie", new)], &Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_token_asks_the_api_server_and_does_nothing_to_users_and_tokens() {
    let on = Ground::make().await;
    let alice = User::of(&*on.state.records, &testing::user("alice").name).unwrap();
    let (id, token) = token::create(&*on.state.records, &alice, "x", 1, clock::now()).await.unwrap();
    let bearer = format!("Bearer {token}");
    let with = [("authorization", bearer.as_str()), JSON];
    // Neither origin nor header: no browser adds a token by itself.
    let (code, said, _) = on.ask(Method::DELETE, &format!("{VMS}/web"), &with, &Value::Null).await;
    assert_eq!((code, said["method"].as_str()), (200, Some("DELETE")));
    for (method, path) in [
        (Method::GET, "/console/users"),
        (Method::POST, "/console/users"),
        (Method::PATCH, "/console/users/bob"),
        (Method::DELETE, "/console/users/bob"),
        (Method::GET, "/console/second"),
        (Method::POST, "/console/second"),
        (Method::POST, "/console/second/confirm"),
        (Method::POST, "/console/second/remove"),
        (Method::DELETE, "/console/users/bob/second"),
        (Method::GET, "/console/tokens"),
        (Method::POST, "/console/tokens"),
        (Method::DELETE, "/console/tokens/x"),
        (Method::POST, "/console/password"),
        (Method::POST, "/console/logout"),
        (Method::POST, "/console/join-tokens"),
        (Method::POST, "/console/upload/shop/disk"),
        (Method::GET, "/console/download/shop/away/disk/disk.img"),
    ] {
        let (code, said, _) = on.ask(method, path, &with, &json!({})).await;
        let message = Some("a token does not do this; log in with a password");
        assert_eq!((code, said["message"].as_str()), (403, message), "{path}");
    }
    // Of another user.
    let bob = testing::user("bob");
    on.state.records.create(Record::new(Kind::User, "bob", &bob).unwrap()).await.unwrap();
    let secret = session::begin(&*on.state.records, &bob, clock::now()).await.unwrap();
    let cookie = format!("{}={secret}", cookie::NAME);
    let with = [&[("cookie", cookie.as_str())][..], &OWN].concat();
    let (code, said, _) = on.ask(Method::DELETE, &format!("/console/tokens/{id}"), &with, &Value::Null).await;
    assert_eq!((code, said["message"].as_str()), (404, Some("there is no such token of yours")));
    assert_eq!(on.ask(Method::GET, "/console/tokens", &with, &Value::Null).await.1, json!([]));
}

/// A code of the secret that was shown, now or `ahead` steps from now.
fn code_of(secret: &Value, ahead: u64) -> String {
    let secret = totp::from_base32(secret.as_str().unwrap()).unwrap();
    totp::code(&secret, clock::now() / totp::STEP + ahead)
}

#[tokio::test]
async fn a_second_factor_is_confirmed_asked_for_at_login_and_removed_with_password_and_code() {
    let on = Ground::make().await;
    let cookie = on.cookie().await;
    let with = [&[("cookie", cookie.as_str()), JSON][..], &OWN].concat();
    let ask = async |path: &str, body: Value| on.ask(Method::POST, path, &with, &body).await;
    let log_in = async |code: Value| {
        let typed = json!({"user": "alice", "password": PASSWORD, "code": code});
        on.ask(Method::POST, "/console/login", &[JSON], &typed).await
    };
    let (code, said, _) = ask("/console/second", json!({"password": "wrong password"})).await;
    assert_eq!((code, said["message"].as_str()), (403, Some("the password is wrong")));
    let (code, said, _) = ask("/console/second/confirm", json!({"code": "123456"})).await;
    assert_eq!((code, said["message"].as_str()), (409, Some("begin first: there is nothing to confirm")));
    let (code, begun, _) = ask("/console/second", json!({"password": PASSWORD})).await;
    assert_eq!(code, 201, "{begun}");
    let secret = &begun["secret"];
    assert!(begun["uri"].as_str().unwrap().starts_with("otpauth://totp/Sheaf:alice?secret="), "{begun}");
    assert_eq!(on.log_in(PASSWORD).await.0, 200, "it does not count before it is confirmed");
    let (code, said, _) = ask("/console/second/confirm", json!({"code": "12345x"})).await;
    let message = "the code is wrong: check the clock of the device, and that it has this secret";
    assert_eq!((code, said["message"].as_str()), (403, Some(message)));
    let (code, confirmed, _) = ask("/console/second/confirm", json!({"code": code_of(secret, 0)})).await;
    assert_eq!((code, confirmed["recoveryCodes"].as_array().unwrap().len()), (200, 8), "{confirmed}");
    let (_, said, _) = on.ask(Method::GET, "/console/second", &with, &Value::Null).await;
    assert_eq!(said, json!({"on": true, "recoveryCodes": 8}));
    let (code, said, _) = ask("/console/second", json!({"password": PASSWORD})).await;
    assert_eq!(
        (code, said["message"].as_str()),
        (409, Some("there is a second factor already; remove it first"))
    );

    let (code, said, headers) = on.log_in(PASSWORD).await;
    assert_eq!((code, said["reason"].as_str()), (401, Some("CodeRequired")));
    assert!(!headers.contains_key(header::SET_COOKIE));
    let (_, said, _) = on.log_in("wrong password").await;
    assert_eq!(
        said["reason"], "Unauthorized",
        "who has not the password does not learn that a code is asked for"
    );
    assert_eq!(log_in(json!("000000x")).await.0, 401);
    let next = code_of(secret, 1);
    assert_eq!(log_in(json!(next)).await.0, 200);
    let (code, said, _) = log_in(json!(next)).await;
    assert_eq!((code, said["message"].as_str()), (401, Some("the code is wrong, or was used already")));
    assert_eq!(log_in(confirmed["recoveryCodes"][0].clone()).await.0, 200);
    assert_eq!(log_in(confirmed["recoveryCodes"][0].clone()).await.0, 401);

    let (code, said, _) =
        ask("/console/second/remove", json!({"password": PASSWORD, "code": confirmed["recoveryCodes"][0]}))
            .await;
    assert_eq!((code, said["message"].as_str()), (403, Some("the code is wrong, or was used already")));
    let body = json!({"password": PASSWORD, "code": confirmed["recoveryCodes"][1]});
    assert_eq!(ask("/console/second/remove", body).await.0, 204);
    assert_eq!(on.log_in(PASSWORD).await.0, 200);
}

#[tokio::test]
async fn codes_are_guessed_as_slowly_as_passwords_and_tokens_need_none() {
    let on = Ground::make().await;
    let alice = User::of(&*on.state.records, &testing::user("alice").name).unwrap();
    let (factor, _) = second::Factor::new(&alice).unwrap().confirm().unwrap();
    on.state.records.create(Record::new(Kind::Factor, "alice", &factor).unwrap()).await.unwrap();
    let (_, token) = token::create(&*on.state.records, &alice, "x", 1, clock::now()).await.unwrap();
    let bearer = format!("Bearer {token}");
    let by_token = [("authorization", bearer.as_str())];
    assert_eq!(on.ask(Method::GET, VMS, &by_token, &Value::Null).await.0, 200);
    for _ in 0..3 {
        assert_eq!(on.log_in(PASSWORD).await.1["reason"], "CodeRequired");
    }
    let typed = json!({"user": "alice", "password": PASSWORD, "code": "none"});
    for _ in 0..5 {
        assert_eq!(on.ask(Method::POST, "/console/login", &[JSON], &typed).await.0, 401);
    }
    assert_eq!(on.ask(Method::POST, "/console/login", &[JSON], &typed).await.0, 429);
}

#[tokio::test]
async fn an_administrator_removes_anothers_second_factor_with_his_own_rights_and_never_his_own_so() {
    let on = Ground::make().await;
    let cookie = on.cookie().await;
    let with = [&[("cookie", cookie.as_str())][..], &OWN].concat();
    let ask = async |name: &str| {
        on.ask(Method::DELETE, &format!("/console/users/{name}/second"), &with, &Value::Null).await
    };
    let (code, said, _) = ask("alice").await;
    let message = "the own second factor is removed with the password and a code of it";
    assert_eq!((code, said["message"].as_str()), (403, Some(message)));
    assert_eq!(on.asked.load(Ordering::Relaxed), 0);
    assert_eq!(ask("bob").await.0, 204);
    assert_eq!(on.asked.load(Ordering::Relaxed), 1, "the API server decides, and is asked as alice");
}

#[tokio::test]
async fn nobody_changes_or_deletes_himself_and_a_401_of_the_api_server_is_not_one_of_the_console() {
    let on = Ground::make().await;
    let cookie = on.cookie().await;
    let with = [&[("cookie", cookie.as_str()), JSON][..], &OWN].concat();
    let roles = json!({"roles": []});
    let (code, said, _) = on.ask(Method::PATCH, "/console/users/alice", &with, &roles).await;
    let message = "nobody changes the roles of himself; the own password is changed with the old one";
    assert_eq!((code, said["message"].as_str()), (403, Some(message)));
    let (code, said, _) = on.ask(Method::DELETE, "/console/users/alice", &with, &Value::Null).await;
    assert_eq!((code, said["message"].as_str()), (403, Some("nobody deletes himself")));
    assert_eq!(on.asked.load(Ordering::Relaxed), 0);
    let (code, ..) = on.ask(Method::GET, "/api/api/v1/namespaces/unauthorized", &with, &Value::Null).await;
    assert_eq!(code, 502);
    let (code, ..) = on.ask(Method::GET, "/api/api/v1/namespaces/none", &with, &Value::Null).await;
    assert_eq!(code, 404);
    let (code, said, _) = on.ask(Method::GET, "/api/api/v1/namespaces/unserved", &with, &Value::Null).await;
    let why = "the API server does not know this kind yet: it was started a moment ago; try again";
    assert_eq!((code, said["message"].as_str()), (503, Some(why)), "nothing was deleted");
}

#[tokio::test]
async fn large_bodies_are_taken_a_few_at_a_time_and_small_ones_always() {
    let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    };
    let (small, large) = (headers(&[("content-length", "65536")]), headers(&[("content-length", "65537")]));
    let unknown = headers(&[("transfer-encoding", "chunked")]);
    let held: Vec<_> = (0..16).map(|_| place(&large).unwrap().unwrap()).collect();
    let message = "too many large requests at once; try again";
    assert_eq!(place(&large).unwrap_err().message, message);
    assert_eq!(place(&unknown).unwrap_err().message, message);
    assert!(place(&small).unwrap().is_none() && place(&headers(&[])).unwrap().is_none());
    drop(held);
    assert!(place(&unknown).unwrap().is_some());
}
