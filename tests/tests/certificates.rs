//! Keys and certificates of the control plane over years, on the real control plane.
//!
//! Why here: only etcd shows what a Secret is stored as, and only the API server whether a certificate is accepted, an
//! administrator refused, and what is in its audit log. Route in: the agent's own code, the `kube` binary. Route out: bytes in
//! etcd, answers, lines.

use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use sheaf_agent::administrators::by_hand::{Ask, ask_with};
use sheaf_agent::certificates::by_hand::certificates;
use sheaf_agent::channels;
use sheaf_agent::cluster::create::control_plane;
use sheaf_agent::cluster::create::pki::{LEAVES, Pki};
use sheaf_agent::cluster::keys::{self, Authority, Key, Subject};
use sheaf_agent::cluster::kubeconfig::{self, Credentials};
use sheaf_agent::cluster::report::Reporter;
use sheaf_agent::encryption::keys::Ring;
use sheaf_agent::encryption::stored::{Stored, stored};
use sheaf_agent::encryption::{by_hand, settle, step};
use sheaf_agent::etcd::program::{Etcd, pairs};
use sheaf_agent::service_accounts;
use sheaf_agent::service_accounts::keys::KeySet;
use sheaf_agent::shared_keys::Place;
use sheaf_config::load::parse_node_config;
use sheaf_config::node::NodeConfig;
use sheaf_tests::cluster::ControlPlane;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// What is in the Secrets of these tests.
const CONTENT: &str = "correct horse battery staple";
/// The same in base64, as objects have it.
const ENCODED: &str = "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==";
/// Longest wait for anything here; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(200);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn config(cluster: &str) -> Result<NodeConfig> {
    let text = format!("version = 1\nsystem.hostname = \"plane\"\n[cluster]\nmode = \"create\"\n{cluster}\n");
    parse_node_config("node.toml", &text).map_err(|errors| anyhow!("{errors}"))
}

/// Makes the control plane as the agent does at its start.
async fn make_again(plane: &ControlPlane) -> Result<()> {
    let config = config("")?;
    let (_ctx, publish) = channels::open(plane.paths.clone(), config.clone());
    let section = config.cluster.clone().context("the config makes a cluster")?;
    let report = Reporter::new(publish.sections.cluster);
    let made = control_plane(&plane.paths, &config, &section, plane.address, &plane.hosts, &report).await;
    made.map(drop).map_err(|failure| anyhow!("{failure}\n{}", plane.tails()))
}

fn secrets(client: &kube::Client) -> Api<Secret> {
    Api::namespaced(client.clone(), "default")
}

async fn create(plane: &ControlPlane, name: &str) -> Result<()> {
    let secret =
        serde_json::from_value(json!({"metadata": {"name": name}, "stringData": {"password": CONTENT}}))?;
    secrets(&plane.admin).create(&PostParams::default(), &secret).await?;
    Ok(())
}

/// The Secret as the API server has it, once it answers.
async fn read(plane: &ControlPlane, name: &str) -> Result<String> {
    let answer = tokio::time::timeout(TIMEOUT, async {
        loop {
            match secrets(&plane.admin).get(name).await {
                Err(kube::Error::Api(status)) => return Err(kube::Error::Api(status)),
                Ok(secret) => return Ok(secret),
                // It is restarting.
                Err(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    });
    let data = answer.await.context("no answer")??.data.unwrap_or_default();
    Ok(String::from_utf8(data.get("password").context("it has a password")?.0.clone())?)
}

/// The bytes of the Secret in etcd.
fn bytes(plane: &ControlPlane, name: &str) -> Result<Vec<u8>> {
    let key = format!("/registry/secrets/default/{name}");
    let command = Etcd::of(&plane.paths).range(&key, &format!("{key}0"), 1);
    let found = pairs(&plane.hosts.run.run(&command)?.text())?;
    Ok(found.into_iter().next().context("etcd has no such key")?.value)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn in_etcd(plane: &ControlPlane) -> Result<Stored> {
    stored(&Etcd::of(&plane.paths), &*plane.hosts.run)
}

fn ring(plane: &ControlPlane) -> Result<Ring> {
    Ring::load(&plane.paths)?.context("the control plane has keys of Secrets")
}

fn say(line: &str) {
    println!("{line}");
}

/// Kills `change` where its step waits first, or right after it if it waits for nothing; what the step said, if there was one.
async fn kill_early(
    change: impl AsyncFnOnce(&(dyn Fn(&str) + Sync)) -> Result<()>,
) -> Result<Option<String>> {
    let (line, at) = (Mutex::new(None), Notify::new());
    let note = |text: &str| {
        *line.lock().unwrap() = Some(text.to_owned());
        at.notify_one();
    };
    tokio::select! {
        biased;
        () = at.notified() => {}
        done = change(&note) => done?,
    }
    Ok(line.into_inner()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_cannot_be_read_in_etcd_and_a_rotation_that_is_killed_at_each_step_ends_with_one_key()
-> Result<()> {
    let plane = ControlPlane::start("").await?;
    let now = SystemTime::now();
    let place = Place { paths: &plane.paths, hosts: &plane.hosts, now, by_hand: true };
    create(&plane, "of-the-first-key").await?;
    let raw = bytes(&plane, "of-the-first-key")?;
    ensure!(raw.starts_with(b"k8s:enc:secretbox:v1:k1-"), "{}", String::from_utf8_lossy(&raw));
    ensure!(!contains(&raw, CONTENT) && !contains(&raw, ENCODED), "etcd has it in the clear");

    // A control plane of an earlier version: no keys, Secrets as they are.
    let first = ring(&plane)?;
    let plain = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"identity": {}}, serde_json::from_str::<Value>(&first.configuration())?["resources"][0]["providers"][0]]}],
    });
    fs::write(plane.paths.run.join("encryption.json"), plain.to_string())?;
    plane.hosts.units.restart("kube-apiserver.service").await?;
    read(&plane, "of-the-first-key").await?;
    create(&plane, "in-the-clear").await?;
    ensure!(contains(&bytes(&plane, "in-the-clear")?, CONTENT), "this is how an earlier version stores it");
    make_again(&plane).await.context("the agent of this version starts")?;
    settle(place, &say).await.with_context(|| plane.tails())?;
    ensure!(!contains(&bytes(&plane, "in-the-clear")?, CONTENT), "it was not encrypted");
    let (now_stored, settled) = (in_etcd(&plane)?, ring(&plane)?.is_settled());
    ensure!(now_stored.plain == 0 && settled, "{now_stored:?}, settled: {settled}");
    let content = read(&plane, "in-the-clear").await?;
    ensure!(content == CONTENT, "{content}");
    ensure!(step(place, &say).await?.is_none(), "nothing is left to do");

    let mut begun = ring(&plane)?;
    begun.add(now)?;
    begun.save(&plane.paths)?;
    let mut killed = Vec::new();
    loop {
        killed.extend(kill_early(async |note| settle(place, note).await.map(drop)).await?);
        let done = step(place, &say).await.with_context(|| plane.tails())?;
        ensure!(read(&plane, "in-the-clear").await? == CONTENT, "after {done:?}");
        ensure!(read(&plane, "of-the-first-key").await? == CONTENT, "after {done:?}");
        if done.is_none() {
            break;
        }
    }
    println!("killed at: {killed:#?}");
    for part in ["restart kube-apiserver", "encrypt with key k2-", " Secrets again", "take all keys but k2-"]
    {
        ensure!(killed.iter().any(|line| line.contains(part)), "it was not killed at {part:?}: {killed:#?}");
    }
    let (ring, stored) = (ring(&plane)?, in_etcd(&plane)?);
    ensure!(ring.is_settled() && ring.keys[0].number == 2, "{ring:?}");
    ensure!(stored.besides(&ring.keys[0].name) == 0, "{stored:?}");

    let said = by_hand::rotate(&plane.paths, &plane.hosts, now, &say).await.with_context(|| plane.tails())?;
    ensure!(said.starts_with("every Secret is encrypted with key k3-"), "{said}");
    let shown = by_hand::status(&plane.paths, &plane.hosts).await?;
    ensure!(shown.ends_with("every Secret is encrypted with the one key in use\n"), "{shown}");
    let content = read(&plane, "in-the-clear").await?;
    ensure!(content == CONTENT, "{content}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_expired_while_the_node_was_off_are_made_at_its_start() -> Result<()> {
    let plane = ControlPlane::start("").await?;
    let pki = Pki { dir: plane.paths.kubernetes.clone() };
    let problems =
        || Ok::<_, anyhow::Error>(certificates(&plane.paths, &config("")?, false, SystemTime::now())?.1);
    ensure!(problems()?.is_empty(), "{:#?}", problems()?);
    for unit in ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"] {
        plane.hosts.units.stop(&format!("{unit}.service")).await?;
    }
    // Each leaf as it looks two years later: by its own CA, expired.
    let made = SystemTime::now() - YEAR * 2;
    for leaf in LEAVES {
        let ca = match leaf {
            "front-proxy-client" => "front-proxy-ca",
            leaf if leaf.starts_with("etcd/") || leaf == "apiserver-etcd-client" => "etcd/ca",
            _ => "ca",
        };
        let read = |name: String| fs::read_to_string(pki.file(&name));
        let authority = Authority::from_pem(&read(format!("{ca}.crt"))?, &read(format!("{ca}.key"))?)?;
        let facts = keys::facts(&read(format!("{leaf}.crt"))?)?;
        let subject = Subject { common_name: "expired".into(), organisations: Vec::new() };
        let expired = authority.issue_client(&subject, &facts.public_der, YEAR, made)?;
        fs::write(pki.file(&format!("{leaf}.crt")), expired)?;
    }
    let expired = problems()?;
    ensure!(
        expired.len() == LEAVES.len() && expired.iter().all(|text| text.contains(" expired at ")),
        "{expired:#?}"
    );
    make_again(&plane).await?;
    ensure!(problems()?.is_empty(), "{:#?}", problems()?);
    let found = Api::<Namespace>::all(plane.admin.clone()).get_opt("default").await?;
    ensure!(found.is_some(), "the data is gone");
    Ok(())
}

/// Whether the API server accepts `token` of a service account.
async fn is_accepted(plane: &ControlPlane, token: &str) -> Result<bool> {
    let reviews: Api<TokenReview> = Api::all(plane.admin.clone());
    let review = serde_json::from_value(json!({"metadata": {}, "spec": {"token": token}}))?;
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.and_then(|status| status.authenticated).unwrap_or_default())
}

/// A token of `default/default` that ends as late as possible.
async fn issued(plane: &ControlPlane) -> Result<String> {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                         "spec": {"audiences": [], "expirationSeconds": 10 * 365 * 24 * 3600}});
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(request.to_string().into_bytes())?;
    let answer: Value = plane.admin.request(request).await?;
    let end: Timestamp = answer["status"]["expirationTimestamp"].as_str().context("it ends")?.parse()?;
    let left = SystemTime::from(end).duration_since(SystemTime::now())?;
    ensure!(left <= YEAR, "a token for {left:?} outlives the key that signed it");
    Ok(answer["status"]["token"].as_str().context("it is a token")?.to_owned())
}

/// The token in the Secret `default/ci`, once kube-controller-manager has filled it with another than `before`.
async fn in_secret(plane: &ControlPlane, before: &str) -> Result<String> {
    let mut token = String::new();
    until("the Secret has a token", async || {
        let data = secrets(&plane.admin).get("ci").await?.data.unwrap_or_default();
        token =
            data.get("token").map(|token| String::from_utf8_lossy(&token.0).into_owned()).unwrap_or_default();
        Ok(!token.is_empty() && token != before)
    })
    .await?;
    Ok(token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_service_accounts_are_accepted_while_their_key_changes_and_end_with_the_former_key_a_year_later()
-> Result<()> {
    let plane = ControlPlane::start("").await?;
    let now = SystemTime::now();
    until("the service account is there", async || {
        let accounts: Api<ServiceAccount> = Api::namespaced(plane.admin.clone(), "default");
        Ok(accounts.get_opt("default").await?.is_some())
    })
    .await?;
    let secret = json!({"metadata": {"name": "ci", "annotations": {"kubernetes.io/service-account.name": "default"}},
                        "type": "kubernetes.io/service-account-token"});
    secrets(&plane.admin).create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let (requested, stored) = (issued(&plane).await?, in_secret(&plane, "").await?);
    ensure!(is_accepted(&plane, &requested).await? && is_accepted(&plane, &stored).await?, "the first key");

    let place = Place { paths: &plane.paths, hosts: &plane.hosts, now, by_hand: true };
    let mut set = KeySet::load(&plane.paths)?.context("there is a key")?;
    set.add(now)?;
    set.save(&plane.paths)?;
    let mut killed = Vec::new();
    let deadline = tokio::time::Instant::now() + TIMEOUT * 5;
    loop {
        killed.extend(kill_early(async |note| service_accounts::settle(place, note).await.map(drop)).await?);
        let done = service_accounts::step(place, &say).await.with_context(|| plane.tails())?;
        until("a token of the former key is accepted", async || {
            Ok(is_accepted(&plane, &requested).await.unwrap_or_default())
        })
        .await
        .with_context(|| format!("after {done:?}"))?;
        ensure!(tokio::time::Instant::now() < deadline, "it does not end: {killed:#?}");
        if done.is_none() {
            break;
        }
    }
    println!("killed at: {killed:#?}");
    // The last step is the change of one file: it may be over before it is killed.
    for part in ["restart kube-apiserver", "sign with key 2", "tokens in 1 Secrets"] {
        ensure!(killed.iter().any(|line| line.contains(part)), "it was not killed at {part:?}: {killed:#?}");
    }
    let (second, again) = (issued(&plane).await?, in_secret(&plane, &stored).await?);
    for (what, token) in [("former", &requested), ("new", &second), ("renewed", &again)] {
        ensure!(is_accepted(&plane, token).await?, "the {what} token is refused");
    }
    // The API server accepts the token that the Secret holds, and no other.
    ensure!(!is_accepted(&plane, &stored).await?, "the copy of a token from a Secret");
    let shown = service_accounts::by_hand::status(&plane.paths)?;
    println!("{shown}");
    ensure!(shown.contains("signs and verifies") && shown.contains("verifies until"), "{shown}");

    // A year and two hours later.
    let later = Place { now: now + YEAR + Duration::from_secs(2 * 3600), ..place };
    service_accounts::settle(later, &say).await.with_context(|| plane.tails())?;
    until("tokens of the former key are refused", async || Ok(!is_accepted(&plane, &requested).await?))
        .await?;
    ensure!(
        is_accepted(&plane, &second).await? && is_accepted(&plane, &again).await?,
        "tokens of the new key"
    );
    make_again(&plane).await.context("the agent starts again")?;
    ensure!(service_accounts::step(place, &say).await?.is_none(), "nothing is left to do");
    Ok(())
}

/// Answers of the API server until `holds`.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waited = tokio::time::timeout(TIMEOUT, async {
        while !holds().await? {
            tokio::time::sleep(INTERVAL).await;
        }
        anyhow::Ok(())
    });
    waited.await.with_context(|| format!("not in time: {what}"))?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_works_is_revoked_and_refused_and_the_audit_log_has_it_all_but_no_contents()
-> Result<()> {
    let (alice, bob) = (Key::generate()?, Key::generate()?);
    let cluster = format!("admin-keys = [\"\"\"\n{}\"\"\"]", alice.public_pem()?);
    let plane = ControlPlane::start(&cluster).await?;
    let section = config(&cluster)?.cluster.context("the config makes a cluster")?;
    let ca = fs::read_to_string(plane.paths.kubernetes.join("pki/ca.crt"))?;
    // As `sheaf admin kubeconfig` does it.
    let client_of = async |key: &Key| {
        let access: Api<ConfigMap> = Api::namespaced(plane.admin.clone(), "kube-public");
        let published = access.get("sheaf-access").await?.data.unwrap_or_default();
        let public = key.public_der()?;
        let mine =
            published.values().find(|pem| keys::facts(pem).is_ok_and(|facts| facts.public_der == public));
        let Some(mine) = mine.filter(|pem| **pem != ca) else { return Ok(None) };
        let facts = keys::facts(mine)?;
        ensure!(!facts.subject.contains("system:masters"), "{}", facts.subject);
        let until = facts.not_after.duration_since(SystemTime::now())?;
        ensure!(until < Duration::from_secs(31 * 24 * 3600), "{until:?}");
        let key = key.to_pem()?;
        let client =
            kubeconfig::client(&plane.server, Some(&ca), Credentials::Certificate(mine, &key)).await?;
        let user =
            facts.subject.split(',').find_map(|part| part.strip_prefix("CN=")).unwrap_or_default().to_owned();
        anyhow::Ok(Some((client, user)))
    };
    let (client, user) = client_of(&alice).await?.context("alice has a certificate")?;
    create(&plane, "audited").await?;
    secrets(&client).get("audited").await.context("an administrator reads a Secret")?;
    let namespace = serde_json::from_value(json!({"metadata": {"name": "made-by-alice"}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;

    let ask = async |request: Ask| ask_with(&plane.admin, &plane.paths, &section, &request).await;
    println!("{}", ask(Ask::Add { name: "bob".into(), key: bob.public_pem()? }).await?);
    let (bobs, _) = client_of(&bob).await?.context("bob has a certificate")?;
    until("bob is an administrator", async || Ok(secrets(&bobs).list(&ListParams::default()).await.is_ok()))
        .await?;
    println!("{}", ask(Ask::Revoke { user: user.clone() }).await?);
    until("alice is refused", async || {
        Ok(matches!(secrets(&client).get("audited").await, Err(kube::Error::Api(status)) if status.code == 403))
    })
    .await?;
    ensure!(client_of(&alice).await?.is_none(), "a certificate of hers is still published");
    secrets(&bobs).get("audited").await.context("bob is an administrator still")?;
    let shown = ask(Ask::List).await?;
    println!("{shown}");
    ensure!(shown.lines().any(|line| line.starts_with(&user) && line.ends_with("revoked")), "{shown}");
    // The agent, at its next start, gives nothing back.
    println!("{}", ask(Ask::Allow { user: user.clone() }).await?);
    until("alice is an administrator again", async || Ok(secrets(&client).get("audited").await.is_ok()))
        .await?;

    let log = plane.root().join("var/log/kube-apiserver/audit.log");
    let lines = || -> Result<Vec<Value>> {
        let text = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        ensure!(!text.contains(CONTENT) && !text.contains(ENCODED), "the audit log has what is in a Secret");
        // The last line may be half written.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    };
    let of = |line: &Value, user: &str, code: u64| {
        line["verb"] == "get"
            && line["objectRef"]["resource"] == "secrets"
            && line["objectRef"]["name"] == "audited"
            && line["user"]["username"] == user
            && line["responseStatus"]["code"] == code
    };
    until("reads of the Secret, allowed and refused, are in the audit log", async || {
        let lines = lines()?;
        Ok(lines.iter().any(|line| of(line, &user, 200)) && lines.iter().any(|line| of(line, &user, 403)))
    })
    .await?;
    let lines = lines()?;
    ensure!(lines.iter().all(|line| line["level"] == "Metadata"), "a level above Metadata");
    let with_body =
        lines.iter().find(|line| !line["requestObject"].is_null() || !line["responseObject"].is_null());
    ensure!(with_body.is_none(), "{with_body:?}");
    let noise = lines.iter().find(|line| {
        line["objectRef"]["resource"] == "leases"
            || line["requestURI"].as_str().is_some_and(|uri| uri.starts_with("/readyz"))
    });
    ensure!(noise.is_none(), "{noise:?}");
    Ok(())
}
