//! What one more node joins with: a token that is made for it, and the table of its node.toml.
//!
//! Why here and not by the proxy: the token is a Secret of `kube-system`, where the console makes nothing else; made here, its type, its
//! groups and its end are not a browser's to choose, and the page never sees how. It is made with the rights of the user who asks, who
//! must administer the cluster: a node that joins is given Secrets of the machines that start on it. Nodes of the control plane
//! need keys that no API has; `sheaf-agent token create --control-plane` on one of them makes theirs. Route in: the name of the node,
//! if it is known. Route out: Secret `kube-system/bootstrap-token-ID`; text to paste.

use std::net::IpAddr;

use http::{Method, StatusCode};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use sheaf_api::join_token::{self, Grant};
use sheaf_config::pin::CaPin;

use crate::{
    answer::{self, Answer, Refusal},
    caller::Caller,
    clock,
    serve::State,
    upstream::As,
};

/// Longest name of a node: a DNS label.
const LONGEST_NAME: usize = 63;
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The only node that may use it.
    node: Option<String>,
}

/// POST /console/join-tokens.
pub async fn create(state: &State, caller: &Caller, wanted: Wanted) -> Result<Answer, Refusal> {
    let only_for = wanted.node.as_deref().map(name).transpose()?;
    let who = As::caller(caller);
    let everything = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"group": "*", "resource": "*", "verb": "*"}},
    });
    let review = state.upstream.json(&who, Method::POST, REVIEWS, Some(&everything)).await?;
    if review["status"]["allowed"].as_bool() != Some(true) {
        return Err(Refusal::forbidden("only administrators of the cluster make tokens for nodes"));
    }
    let ca_hash = CaPin::of_certificate(&state.cluster.ca)
        .map_err(|error| Refusal::internal(format!("the CA of the API server: {error}")))?;
    let server = join_token::server(&vips(state, &who).await?, state.cluster.server.clone());
    let (id, secret) = join_token::draw(|| {
        let mut byte = [0];
        getrandom::fill(&mut byte).map(|()| byte[0])
    })
    .map_err(|error| Refusal::internal(format!("no random numbers: {error}")))?;
    let ends = clock::now().saturating_add(join_token::LIFETIME);
    let time = Timestamp::from_second(i64::try_from(ends).unwrap_or(i64::MAX)).map_err(Refusal::internal)?;
    let description = format!("Made in the console by {}", caller.user);
    let grant = Grant { ends: &time.to_string(), description: &description, only_for };
    let object = join_token::secret(&id, &secret, grant);
    let path = format!("/api/v1/namespaces/{}/secrets", join_token::NAMESPACE);
    state.upstream.json(&who, Method::POST, &path, Some(&object)).await?;
    tracing::info!(user = %caller.user, id, node = only_for, "a token for a node was made");
    let table = join_token::table(&server, &format!("{id}.{secret}"), &ca_hash.to_string());
    Ok(answer::with_status(StatusCode::CREATED, &json!({"table": table, "ends": ends})))
}

/// Addresses for people; none in a cluster without a list of API servers.
async fn vips(state: &State, who: &As) -> Result<Vec<IpAddr>, Refusal> {
    let path =
        format!("/api/v1/namespaces/{}/configmaps/{}", join_token::SERVERS_NAMESPACE, join_token::SERVERS);
    let map = match state.upstream.json(who, Method::GET, &path, None).await {
        Err(refusal) if refusal.code == 404 => return Ok(Vec::new()),
        map => map?,
    };
    let data = map["data"].as_object().into_iter().flatten();
    let of_people = data.filter(|(key, _)| key.starts_with(join_token::VIP));
    let mut vips: Vec<IpAddr> = of_people.filter_map(|(_, vip)| vip.as_str()?.parse().ok()).collect();
    vips.sort_unstable();
    vips.dedup();
    Ok(vips)
}

fn name(text: &str) -> Result<&str, Refusal> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = text.len() <= LONGEST_NAME
        && text.bytes().all(|byte| letters(byte) || byte == b'-')
        && text.bytes().next().is_some_and(letters)
        && text.bytes().last().is_some_and(letters);
    let message = "a node's name has 1 to 63 lowercase letters, digits and hyphens, and begins and ends with a letter or digit";
    fits.then_some(text).ok_or_else(|| Refusal::invalid(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::By, serve::Cluster, testing};
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use std::sync::{Arc, LazyLock, Mutex};

    /// A CA, the same for all tests.
    fn ca() -> &'static str {
        static CA: LazyLock<String> = LazyLock::new(|| {
            let made = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
            crate::pem(made.cert.der())
        });
        &CA
    }

    /// A console whose API server answers: may the user do everything, which addresses it has; and what was asked.
    fn console(allowed: bool, servers: Option<Value>, secrets: u16) -> (State, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let client = testing::api_server(move |request| {
            let path = request.uri().path().to_owned();
            let user = request.headers()["impersonate-user"].to_str().unwrap();
            log.lock().unwrap().push(format!("{user} {} {path}", request.method()));
            Ok(match path.as_str() {
                REVIEWS => (201, json!({"status": {"allowed": allowed}}).to_string()),
                "/api/v1/namespaces/kube-public/configmaps/sheaf-api-servers" => match &servers {
                    Some(data) => (200, json!({"data": data}).to_string()),
                    None => (404, json!({"message": "not found"}).to_string()),
                },
                "/api/v1/namespaces/kube-system/secrets" => {
                    (secrets, json!({"message": "secrets is forbidden"}).to_string())
                }
                _ => panic!("{path} is not to be asked for"),
            })
        });
        let cluster = Cluster { server: "https://192.0.2.10:6443".into(), ca: ca().into() };
        (State::new(client, cluster), asked)
    }

    fn alice() -> Caller {
        Caller {
            user: testing::user("alice").name,
            by: By::Session("x".into()),
            address: [192, 0, 2, 9].into(),
        }
    }

    async fn ask(state: &State, node: Option<&str>) -> Result<Value, Refusal> {
        let answer = create(state, &alice(), Wanted { node: node.map(str::to_owned) }).await?;
        assert_eq!(answer.status(), 201);
        Ok(serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }

    #[tokio::test]
    async fn an_administrator_gets_a_table_with_a_token_that_ends_within_the_hour() {
        let (state, asked) = console(true, None, 201);
        let made = ask(&state, Some("n4")).await.unwrap();
        let table = made["table"].as_str().unwrap();
        let hash = CaPin::of_certificate(ca()).unwrap().to_string();
        assert!(
            table.starts_with("[cluster]\nmode = \"join\"\nserver = \"https://192.0.2.10:6443\"\ntoken = \"")
        );
        assert!(table.ends_with(&format!("ca-hash = \"{hash}\"\n")), "{table}");
        let left = made["ends"].as_u64().unwrap() - clock::now();
        assert!((3590..=3600).contains(&left), "{left}");
        // All of it as the user, and the Secret last.
        let asked = asked.lock().unwrap();
        assert!(asked.iter().all(|line| line.starts_with("console:alice ")), "{asked:?}");
        assert_eq!(asked.last().unwrap(), "console:alice POST /api/v1/namespaces/kube-system/secrets");
    }

    #[tokio::test]
    async fn a_node_joins_by_the_address_for_people() {
        let servers = json!({"a": "https://192.0.2.10:6443", "VIP_a": "192.0.2.100", "VIP_b": "192.0.2.100", "VIP_c": "?"});
        let made = ask(&console(true, Some(servers), 201).0, None).await.unwrap();
        assert!(made["table"].as_str().unwrap().contains("server = \"https://192.0.2.100:6443\""), "{made}");
    }

    #[tokio::test]
    async fn who_does_not_administer_the_cluster_gets_none_and_no_secret_is_asked_for() {
        let (state, asked) = console(false, None, 201);
        let refusal = ask(&state, None).await.unwrap_err();
        assert_eq!(
            (refusal.code, &*refusal.message),
            (403, "only administrators of the cluster make tokens for nodes")
        );
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_secret_that_the_api_server_refuses_is_no_token() {
        let refusal = ask(&console(true, None, 403).0, None).await.unwrap_err();
        assert_eq!((refusal.code, &*refusal.message), (403, "secrets is forbidden"));
    }

    #[tokio::test]
    async fn a_name_that_no_node_can_have_is_refused_before_anything_is_asked() {
        let (state, asked) = console(true, None, 201);
        for name in ["", "N4", "-n4", "n4-", "n4.example", &"n".repeat(64)] {
            let refusal = ask(&state, Some(name)).await.unwrap_err();
            assert_eq!(refusal.code, 422, "{name}");
            assert_eq!(
                refusal.message,
                "a node's name has 1 to 63 lowercase letters, digits and hyphens, and begins and ends with a letter or digit"
            );
        }
        assert!(asked.lock().unwrap().is_empty());
    }
}
