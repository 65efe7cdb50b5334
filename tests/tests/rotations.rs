//! Keys that change on several control-plane nodes at once, on real ones.
//!
//! Why here: only real API servers show that what one encrypts or signs each other reads, in every moment of a change. Route in:
//! three machines in network namespaces on one bridge; the agents' own rounds, one command on one node. Route out: what each API
//! server answers meanwhile, and the keys on each disk.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::cluster::token::LIFETIME;
use sheaf_agent::encryption::keys::Ring;
use sheaf_agent::encryption::stored::stored;
use sheaf_agent::etcd::program::Etcd;
use sheaf_agent::service_accounts::keys::KeySet;
use sheaf_agent::{encryption, service_accounts};
use sheaf_tests::planes::{Network, Plane, TIMEOUT};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// What is in the Secret.
const CONTENT: &str = "correct horse battery staple";
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(300);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waited = tokio::time::timeout(TIMEOUT, async {
        while !holds().await? {
            tokio::time::sleep(INTERVAL).await; // until the next look; the deadline is above
        }
        anyhow::Ok(())
    });
    waited.await.with_context(|| format!("not in time: {what}"))?
}

/// Three control-plane nodes that are up.
async fn three(network: &Network) -> Result<[Plane; 3]> {
    let mut a = Plane::new(network, "a", "[cluster]\nmode = \"create\"")?;
    a.start()?;
    let approver = a.approver().await?;
    a.up().await?;
    let mut others = Vec::new();
    for name in ["b", "c"] {
        let table = invite::create(&a.paths(), &*a.hosts.run, LIFETIME, None).await?;
        let mut one = Plane::new(network, name, &table)?;
        one.start()?;
        one.up().await?;
        others.push(one);
    }
    drop(approver);
    let (Some(c), Some(b)) = (others.pop(), others.pop()) else { bail!("two were made") };
    Ok([a, b, c])
}

/// A token of `default/default`.
async fn issued(client: &kube::Client) -> Result<String> {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                         "spec": {"audiences": [], "expirationSeconds": 3600}});
    let request = http::Request::post("/api/v1/namespaces/default/serviceaccounts/default/token")
        .header("content-type", "application/json")
        .body(request.to_string().into_bytes())?;
    let answer: Value = client.request(request).await?;
    Ok(answer["status"]["token"].as_str().context("it is a token")?.to_owned())
}

/// What is wrong with the answers of one API server; nothing if it does not answer.
async fn wrong(client: &kube::Client, tokens: &[String]) -> Option<String> {
    let secret = Api::<Secret>::namespaced(client.clone(), "default").get("kept").await;
    let map = Api::<ConfigMap>::namespaced(client.clone(), "default").get("kept").await;
    match (secret, map) {
        (Ok(secret), _) => {
            let found = secret.data.unwrap_or_default().remove("password")?;
            if found.0 != CONTENT.as_bytes() {
                return Some("the Secret has other contents".into());
            }
        }
        // etcd answers, and the Secret cannot be decrypted.
        (Err(kube::Error::Api(status)), Ok(_)) if status.code == 500 => return Some(status.message.clone()),
        _ => return None,
    }
    for token in tokens {
        let review = json!({"metadata": {}, "spec": {"token": token}});
        let review = serde_json::from_value(review).ok()?;
        let answer = Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await;
        let status = answer.ok()?.status?;
        if status.authenticated != Some(true) {
            return Some(format!("a token is refused: {:?}", status.error));
        }
    }
    None
}

/// Asks every API server again and again, by clients of the nodes' own kubeconfigs, and has each issue tokens that every other must
/// accept. Ends only with what is wrong.
async fn watched(clients: &[(&str, kube::Client)], count: &Mutex<u64>) -> String {
    let mut tokens: Vec<String> = Vec::new();
    loop {
        for (name, client) in clients {
            if let Ok(Some(why)) = tokio::time::timeout(ANSWER, wrong(client, &tokens)).await {
                return format!("{name}: {why}");
            }
            if let Ok(Ok(token)) = tokio::time::timeout(ANSWER, issued(client)).await {
                tokens.push(token);
                // The oldest of them is of the first key for as long as the test runs.
                if tokens.len() > 8 {
                    tokens.remove(1);
                }
                *count.lock().unwrap() += 1;
            }
        }
        tokio::time::sleep(INTERVAL).await; // until the next questions
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_on_three_control_plane_nodes_while_each_reads_what_every_other_writes_and_one_that_is_off_is_waited_for()
-> Result<()> {
    let network = Network::make()?;
    let [a, mut b, mut c] = three(&network).await?;
    let mut clients = Vec::new();
    for (name, plane) in [("a", &a), ("b", &b), ("c", &c)] {
        clients.push((name, plane.admin().await?));
    }
    let admin = clients[0].1.clone();
    let secret = json!({"metadata": {"name": "kept"}, "stringData": {"password": CONTENT}});
    let map = json!({"metadata": {"name": "kept"}});
    let (secrets, maps) =
        (Api::namespaced(admin.clone(), "default"), Api::<ConfigMap>::namespaced(admin.clone(), "default"));
    secrets.create(&PostParams::default(), &serde_json::from_value::<Secret>(secret)?).await?;
    maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    until("the service account is there", async || {
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
        Ok(accounts.get_opt("default").await?.is_some())
    })
    .await?;
    let (count, said) = (Mutex::new(0), Mutex::new(Vec::new()));
    let say = |line: &str| {
        println!("{line}");
        said.lock().unwrap().push(line.to_owned());
    };
    let (b_paths, b_hosts) = (b.paths(), b.hosts.clone());
    let changes = async {
        // b is off when the command runs on a: it is named, and waited for.
        b.cut_power();
        let (paths, hosts) = (a.paths(), a.hosts.clone());
        let rotated = encryption::by_hand::rotate(&paths, &hosts, SystemTime::now(), &say);
        let back = async {
            until("b is named", async || {
                Ok(said.lock().unwrap().iter().any(|line| line == "waiting for b, c")
                    || said.lock().unwrap().iter().any(|line| line == "waiting for b"))
            })
            .await?;
            b.start()?;
            b.up().await
        };
        let (rotated, back) = tokio::join!(rotated, back);
        back?;
        println!("{}", rotated?);
        until("every node has one key", async || {
            let mut rings = Vec::new();
            for paths in [a.paths(), b.paths(), c.paths()] {
                rings.push(Ring::load(&paths)?.context("it has keys")?);
            }
            Ok(rings.iter().all(|ring| ring.is_settled() && ring.keys == rings[0].keys))
        })
        .await?;
        let stored = stored(&Etcd::of(&a.paths()), &*a.hosts.run)?;
        let ring = Ring::load(&a.paths())?.context("it has keys")?;
        ensure!(ring.keys[0].number == 2 && stored.besides(&ring.keys[0].name) == 0, "{stored:?}");

        // On another node than the first; c's agent is killed in the middle.
        let rotated = service_accounts::by_hand::rotate(&b_paths, &b_hosts, SystemTime::now(), &say);
        let killed = async {
            let is_there =
                || KeySet::load(&c.paths()).map(|set| set.is_some_and(|set| set.next_key().is_some()));
            until("c has the new key", async || is_there()).await?;
            c.cut_power();
            c.start()?;
            c.up().await
        };
        let (rotated, killed) = tokio::join!(rotated, killed);
        killed?;
        println!("{}", rotated?);
        until("every node signs with the new key", async || {
            let mut sets = Vec::new();
            for paths in [a.paths(), b.paths(), c.paths()] {
                sets.push(KeySet::load(&paths)?.context("it has keys")?);
            }
            Ok(sets.iter().all(|set| *set == sets[0] && set.keys[0].number == 2 && set.former().is_empty()))
        })
        .await
    };
    tokio::select! {
        wrong = watched(&clients, &count) => {
            bail!("{wrong}\n{}\n{}", said.lock().unwrap().join("\n"), a.tails())
        }
        changed = changes => changed?,
    }
    let asked = *count.lock().unwrap();
    println!("{asked} rounds of questions");
    ensure!(asked > 30, "the API servers were hardly asked: {asked}");
    Ok(())
}
