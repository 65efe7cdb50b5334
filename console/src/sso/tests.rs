//! Whole logins at a played provider, as a browser makes them.

use super::played::{Played, claims, provider};
use super::*;
use crate::records::{Record, Records as _, fake::Fake};
use crate::{serve, testing};
use sheaf_api::{ClusterConfig, cluster_config::ClusterConfigSpec};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const HOST: &str = "192.0.2.10";

struct Ground {
    state: State,
    provider: Arc<Played>,
}

impl Ground {
    /// With alice, who is alice@example.org there; with a provider, or none.
    async fn make(is_configured: bool) -> Self {
        let client = testing::api_server(move |request| {
            let spec =
                ClusterConfigSpec { identity_provider: Some(provider()), ..ClusterConfigSpec::default() };
            let missing =
                serde_json::json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
            let is_config = request.uri().path().contains("clusterconfigs");
            Ok(match is_config && is_configured {
                true => (200, serde_json::to_string(&ClusterConfig::new("cluster", spec)).unwrap()),
                false => (404, missing.to_string()),
            })
        });
        let (records, provider) = (Arc::new(Fake::default()), Played::new());
        let alice = User { external: Some("alice@example.org".into()), ..testing::user("alice") };
        records.create(Record::new(Kind::User, "alice", &alice).unwrap()).await.unwrap();
        let state = serve::State {
            records,
            sso: Sso::new(client.clone()).with(provider.clone()),
            ..serve::State::new(client, serve::Cluster::default())
        };
        Self { state, provider }
    }

    fn browser(cookie: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(HOST))]);
        if let Some(cookie) = cookie {
            headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        headers
    }

    /// Begins: what the browser keeps, and the query of the provider's page.
    async fn begun(&self) -> (String, std::collections::HashMap<String, String>) {
        let answer = begin(&self.state, &Self::browser(None)).await.unwrap();
        assert_eq!(answer.status(), 303);
        let place = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let query = place.strip_prefix("https://login.example.org/auth?").unwrap();
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        (cookie, form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Comes back: where the browser is sent, and the session that begins.
    async fn back(&self, cookie: Option<&str>, query: &str) -> (String, Option<String>) {
        let answer = finish(&self.state, HERE, &Self::browser(cookie), query).await.unwrap();
        let session = answer.headers().get_all(header::SET_COOKIE).iter().find_map(|cookie| {
            let value = cookie.to_str().unwrap().strip_prefix("__Host-sheaf-session=")?;
            Some(value.split(';').next().unwrap().to_owned())
        });
        (answer.headers()[header::LOCATION].to_str().unwrap().to_owned(), session)
    }

    fn sessions(&self) -> usize {
        self.state.records.list(Kind::Session).len()
    }
}

#[tokio::test]
async fn who_logs_in_at_the_provider_has_a_session_of_the_user_that_he_is() {
    let ground = Ground::make(true).await;
    let (cookie, asked) = ground.begun().await;
    *ground.provider.claims.lock().unwrap() = Some(claims(&asked["nonce"]));
    let (place, session) = ground.back(Some(&cookie), &format!("code=c-1&state={}", asked["state"])).await;
    assert_eq!(place, "/");
    let record = ground.state.records.get(Kind::Session, &session::id(&session.unwrap())).unwrap();
    assert_eq!(record.read::<session::Session>().unwrap().user.as_ref(), "alice");
    let exchanged = ground.provider.exchanged.lock().unwrap().clone();
    assert_eq!((exchanged[0].code.as_str(), exchanged[0].secret.as_deref()), ("c-1", None));
    assert_eq!(exchanged[0].redirect_uri, asked["redirect_uri"]);
}

#[tokio::test]
async fn an_answer_that_this_browser_did_not_ask_for_begins_nothing_and_asks_nobody() {
    let ground = Ground::make(true).await;
    let (cookie, asked) = ground.begun().await;
    *ground.provider.claims.lock().unwrap() = Some(claims(&asked["nonce"]));
    let query = format!("code=c-1&state={}", asked["state"]);
    for (cookie, query) in
        [(None, query.as_str()), (Some(cookie.as_str()), "code=c-1&state=other"), (Some(&cookie), "code=c-1")]
    {
        assert_eq!(ground.back(cookie, query).await, ("/#/login/expired".into(), None), "{query}");
    }
    assert!(ground.provider.exchanged.lock().unwrap().is_empty());
    let denied = format!("error=access_denied&error_description=<script>&state={}", asked["state"]);
    assert_eq!(ground.back(Some(&cookie), &denied).await.0, "/#/login/denied");
    assert_eq!(ground.sessions(), 0);
}

#[tokio::test]
async fn a_token_that_is_not_believed_and_a_name_that_is_no_users_begin_nothing() {
    let ground = Ground::make(true).await;
    let (cookie, asked) = ground.begun().await;
    let back = async |claims| {
        *ground.provider.claims.lock().unwrap() = claims;
        ground.back(Some(&cookie), &format!("code=c&state={}", asked["state"])).await.0
    };
    let right = claims(&asked["nonce"]);
    assert_eq!(back(None).await, "/#/login/provider");
    assert_eq!(back(Some(claims("another"))).await, "/#/login/provider");
    let mut mallory = right.clone();
    mallory["email"] = json!("mallory@example.org");
    assert_eq!(back(Some(mallory)).await, "/#/login/unknown");
    // Disabled, and two users with the name: nobody knows which.
    let mut record = ground.state.records.get(Kind::User, "alice").unwrap();
    let alice: User = record.read().unwrap();
    record.data = serde_json::to_value(User { disabled: true, ..alice.clone() }).unwrap();
    ground.state.records.replace(record).await.unwrap();
    assert_eq!(back(Some(right.clone())).await, "/#/login/unknown");
    let mut record = ground.state.records.get(Kind::User, "alice").unwrap();
    record.data = serde_json::to_value(&alice).unwrap();
    ground.state.records.replace(record).await.unwrap();
    let twin = User { external: alice.external.clone(), ..testing::user("twin") };
    ground.state.records.create(Record::new(Kind::User, "twin", &twin).unwrap()).await.unwrap();
    assert_eq!(back(Some(right)).await, "/#/login/unknown");
    assert_eq!(ground.sessions(), 0);
}

#[tokio::test]
async fn a_cluster_without_a_provider_shows_none_and_sends_nobody_anywhere() {
    let ground = Ground::make(false).await;
    let refused = begin(&ground.state, &Ground::browser(None)).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (404, "the cluster has no identity provider"));
    let refused = finish(&ground.state, HERE, &Ground::browser(None), "code=c").await.unwrap_err();
    assert_eq!(refused.code, 404);
    let with = Ground::make(true).await;
    for (ground, expected) in
        [(&ground, json!({"provider": null})), (&with, json!({"provider": "login.example.org"}))]
    {
        let answer = shown(&ground.state).await.unwrap();
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), expected);
    }
}

#[tokio::test]
async fn an_administrator_writes_provider_and_secret_with_his_own_rights_and_what_is_not_named_goes() {
    let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let seen = asked.clone();
    let client = testing::api_server(move |request| {
        let as_user = request.headers()["impersonate-user"].to_str().unwrap();
        seen.lock().unwrap().push(format!("{as_user} {} {}", request.method(), request.uri()));
        // Neither is there yet.
        let missing = request.method() != http::Method::POST;
        Ok((if missing { 404 } else { 201 }, json!({"message": "not there"}).to_string()))
    });
    let controller = testing::PlayedController::new(testing::Then::Break);
    let (state, caller) = testing::with_alice(client, controller).await;
    let wanted = json!({"provider": {"issuer": "https://login.example.org", "clientID": "sheaf"}, "clientSecret": " s "});
    configure(&state, &caller, serde_json::from_value(wanted).unwrap()).await.unwrap();
    let secrets = "/api/v1/namespaces/sheaf-console/secrets";
    let configs = "/apis/sheaf.dev/v1alpha1/clusterconfigs";
    assert_eq!(
        *asked.lock().unwrap(),
        [
            format!("console:alice PATCH {secrets}/identity-provider?fieldValidation=Strict"),
            format!("console:alice POST {secrets}?fieldValidation=Strict"),
            format!("console:alice PATCH {configs}/cluster?fieldValidation=Strict"),
            format!("console:alice POST {configs}?fieldValidation=Strict"),
        ]
    );
    asked.lock().unwrap().clear();
    assert!(
        serde_json::from_value::<configure::Wanted>(json!({})).is_err(),
        "nothing is removed by being left out"
    );
    // Without a provider there is no secret of it. (No ClusterConfig: none is made but an empty one.)
    configure(&state, &caller, serde_json::from_value(json!({"provider": null})).unwrap()).await.unwrap();
    assert_eq!(asked.lock().unwrap()[0], format!("console:alice DELETE {secrets}/identity-provider"));
}
