//! The administration console on the real API server: a cluster is claimed, users are let in, and what they may not do is refused.
//!
//! Why here: what a user may do is RBAC, what the console may do is RBAC and the authorization configuration; only the API
//! server itself shows that they hold. The console runs in this process with the identity that the agent made. Route in: curl as
//! a browser; kubectl as somebody who took the console's identity. Route out: a status and a sentence for each attempt.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use sheaf_agent::api_server::Joined;
use sheaf_agent::channels;
use sheaf_agent::claim::{self, by_hand};
use sheaf_api::VirtualMachine;
use sheaf_api::console::{CLAIM_ROLE, CLAIM_SECRET, NAMESPACE};
use sheaf_api::names::TOKEN_NODE_ANNOTATION;
use sheaf_host::libvirt::DomainStats;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::cluster::kube_binary;
use sheaf_tests::console::{Browser, PASSWORD, Program, Served, code_in, node_config, request};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::played::{self, PlayedNode};

/// A cluster with a console.
struct Ground {
    on: Controlled,
    console: Served,
}

impl Ground {
    async fn make() -> Result<Self> {
        let on = Controlled::start().await?;
        let console = Served::start(&on.plane).await?;
        Ok(Self { on, console })
    }

    /// What the console answers: status and body.
    fn ask(&self, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> Result<(u16, String)> {
        ask_at(&self.console.address, method, path, headers, body)
    }

    /// A browser that has logged in.
    fn log_in(&self, user: &str) -> Result<Browser> {
        Browser::log_in(&self.console.address, user)
    }

    fn by(&self, browser: &Browser, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
        Ok(browser.ask(method, path, body)?.said())
    }

    /// Opens a claim as `sheaf-agent claim new` does on the node; answers the code.
    async fn open_claim(&self) -> Result<String> {
        let said = by_hand::new(&self.on.plane.paths, &node_config()?).await?;
        ensure!(said.starts_with(&format!("https://{}/\n", self.on.plane.address)), "{said}");
        code_in(&said).map(str::to_owned)
    }
}

/// What `console` answers: status and body.
fn ask_at(
    console: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&Value>,
) -> Result<(u16, String)> {
    Ok(request(console, method, path, headers, body)?.said())
}

/// Claims the cluster for anna, who makes the projects shop and lab, and bob, who operates shop.
async fn settled(ground: &Ground) -> Result<(Browser, Browser)> {
    let (code, said) = ground.ask("GET", "/console/claim", &[], None)?;
    ensure!((code, &*said) == (200, r#"{"open":false}"#), "{code} {said}");
    let shown = ground.open_claim().await?;
    let claim = |code: &str| json!({"code": code, "user": "anna", "password": PASSWORD});
    wait("the console knows of the claim", async || {
        let asked = ground.ask("GET", "/console/claim", &[], None);
        Ok(asked.is_ok_and(|(_, said)| said.contains("true")).then_some(()))
    })
    .await?;
    let (code, said) = ground.ask("POST", "/console/claim", &[], Some(&claim("00000000")))?;
    ensure!(code == 401 && said.contains("the code is wrong"), "{code} {said}");
    let typed = shown.to_lowercase().replace('-', " ");
    let (code, said) = ground.ask("POST", "/console/claim", &[], Some(&claim(&typed)))?;
    ensure!(code == 200, "{code} {said}");
    let again = json!({"code": shown, "user": "mallory", "password": PASSWORD});
    let (code, said) = ground.ask("POST", "/console/claim", &[], Some(&again))?;
    ensure!(code == 404, "a code is good once: {code} {said}");
    let anna = ground.log_in("anna")?;
    for project in ["shop", "lab"] {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": project}});
        let (code, said) = ground.by(&anna, "POST", "/api/api/v1/namespaces", Some(&body))?;
        ensure!(code == 201, "{project}: {code} {said}");
        let (code, said) = ground.by(&anna, "POST", &vms(project), Some(&vm(project)))?;
        ensure!(code == 201, "{project}: {code} {said}");
    }
    let bob = json!({"name": "bob", "password": PASSWORD, "roles": [{"role": "operate", "project": "shop"}]});
    let (code, said) = ground.by(&anna, "POST", "/console/users", Some(&bob))?;
    ensure!(code == 201, "{code} {said}");
    wait("the console knows bob", async || Ok(ground.log_in("bob").ok().map(drop))).await?;
    let bob = ground.log_in("bob")?;
    // Aggregated roles and bindings reach the authorizer after a moment.
    wait("bob sees his project", async || {
        let seen = ground.by(&bob, "GET", &vms("shop"), None);
        Ok(seen.is_ok_and(|(code, _)| code == 200).then_some(()))
    })
    .await?;
    Ok((anna, bob))
}

fn vms(project: &str) -> String {
    format!("/api/apis/kubevirt.io/v1/namespaces/{project}/virtualmachines")
}

fn vm(project: &str) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": project},
        "spec": {"runStrategy": "Halted", "template": {"spec": {
            "domain": {"memory": {"guest": "512Mi"}, "devices": {}}, "volumes": []}}},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_one_project_does_nothing_in_another_and_no_page_does_anything_for_him() -> Result<()> {
    let ground = Ground::make().await?;
    let (anna, bob) = settled(&ground).await?;
    let act = |project: &str, act: &str| {
        format!("/api/apis/subresources.kubevirt.io/v1/namespaces/{project}/virtualmachines/web/{act}")
    };
    // His own project: it works, so that what follows is refused for its reason.
    wait("bob starts his machine", async || {
        let started = ground.by(&bob, "PUT", &act("shop", "start"), Some(&json!({})));
        Ok(started.is_ok_and(|(code, _)| code == 202).then_some(()))
    })
    .await?;

    let lab = vms("lab");
    let one = format!("{lab}/web");
    let grants = json!({"roles": [{"role": "administer"}]});
    let new = json!({"name": "eve", "password": PASSWORD, "roles": [{"role": "administer"}]});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}});
    let mut wrong = Vec::new();
    let mut refused = |what: &str, code: u16, answer: (u16, String), needle: &str| {
        println!("{what}: {}", answer.0);
        if answer.0 != code || !answer.1.contains(needle) {
            wrong.push(format!("{what}: {} instead of {code}: {}", answer.0, answer.1));
        }
    };
    // What RBAC refuses: the user is in the API server's words.
    let user = "console:bob";
    for (method, path, body) in [
        ("GET", lab.clone(), None),
        ("GET", one.clone(), None),
        ("POST", lab.clone(), Some(vm("lab"))),
        ("PUT", one.clone(), Some(vm("lab"))),
        ("DELETE", one.clone(), None),
        ("PUT", act("lab", "start"), Some(json!({}))),
        ("PUT", act("lab", "stop"), Some(json!({}))),
        ("PUT", act("lab", "restart"), Some(json!({}))),
        ("GET", "/api/apis/kubevirt.io/v1/virtualmachines".into(), None),
        ("GET", "/api/api/v1/nodes".into(), None),
        ("GET", "/api/api/v1/namespaces".into(), None),
        ("GET", "/api/api/v1/namespaces/lab".into(), None),
        ("POST", "/api/api/v1/namespaces/lab/secrets".into(), Some(secret.clone())),
        ("DELETE", "/api/api/v1/namespaces/lab".into(), None),
        ("GET", "/api/apis/sheaf.dev/v1alpha1/storagepools".into(), None),
        ("GET", "/console/users".into(), None),
        ("POST", "/console/users".into(), Some(new)),
        ("PATCH", "/console/users/anna".into(), Some(json!({"password": "another long one"}))),
        ("PATCH", "/console/users/anna".into(), Some(grants.clone())),
        ("DELETE", "/console/users/anna".into(), None),
    ] {
        let answer = ground.by(&bob, method, &path, body.as_ref())?;
        refused(&format!("bob: {method} {path}"), 403, answer, user);
    }
    // What the console itself refuses: an administrator too makes no Secret in the cluster's own namespaces.
    for namespace in ["sheaf-console", "kube-system"] {
        let path = format!("/api/api/v1/namespaces/{namespace}/secrets");
        let answer = ground.by(&anna, "POST", &path, Some(&secret))?;
        refused(&format!("anna: POST {path}"), 404, answer, "the console does not offer");
    }
    let answer = ground.by(&bob, "POST", "/console/join-tokens", Some(&json!({})))?;
    refused(
        "bob: a token for a node",
        403,
        answer,
        "only administrators of the cluster make tokens for nodes",
    );
    let screen = |path: &str, origin: &str, cookie: &str| {
        let headers = [
            cookie,
            origin,
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        ground.ask("GET", path, &headers, None)
    };
    let lab_screen = "/api/apis/subresources.kubevirt.io/v1/namespaces/lab/virtualmachineinstances/web/vnc";
    refused("bob: a screen of lab", 403, screen(lab_screen, &bob.origin, &bob.cookie)?, user);
    // What no browser may cause: cookie and rights are anna's.
    let other = "origin: https://evil.example";
    let origin = "another origin";
    for (what, headers, needle) in [
        ("a page of another origin", vec![other, "x-sheaf-console: 1"], origin),
        ("a page without an origin", vec!["origin: null", "x-sheaf-console: 1"], origin),
        ("a form of this origin", vec![anna.origin.as_str()], "X-Sheaf-Console"),
        ("a request without an origin", vec!["x-sheaf-console: 1"], "must name its origin"),
        ("a page of a subdomain", vec![anna.origin.as_str(), "sec-fetch-site: same-site"], "another site"),
    ] {
        let headers = [&[anna.cookie.as_str()], &headers[..]].concat();
        refused(what, 403, ground.ask("DELETE", &one, &headers, None)?, needle);
    }
    refused("a screen for another origin", 403, screen(lab_screen, other, &anna.cookie)?, origin);
    refused(
        "another page logs in",
        403,
        ground.ask(
            "POST",
            "/console/login",
            &[other],
            Some(&json!({"user": "bob", "password": PASSWORD})),
        )?,
        origin,
    );
    let (cookie, value) = anna.cookie.rsplit_once('=').context("a cookie")?;
    let bent: String = value.chars().rev().collect();
    refused(
        "a cookie that was changed",
        401,
        ground.ask("GET", &lab, &[&format!("{cookie}={bent}")], None)?,
        "log in again",
    );
    refused(
        "two cookies",
        401,
        ground.ask("GET", &lab, &[&format!("{}; __Host-sheaf-session=x", anna.cookie)], None)?,
        "log in first",
    );
    refused("no cookie", 401, ground.ask("GET", &lab, &[], None)?, "log in first");
    // Paths, as the administrator.
    for (path, code) in [
        ("/api/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/../../../../../../api/v1/secrets", 400),
        ("/api/apis/kubevirt.io/v1/namespaces/shop%2f..%2flab/virtualmachines", 400),
        ("/api//api/v1/nodes", 400),
        ("/api/api/v1/namespaces/sheaf-console/secrets", 404),
        ("/api/api/v1/nodes/n1/proxy/pods", 404),
        ("/api/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", 404),
        ("/api/apis/kubevirt.io/v1/virtualmachines?watch=true", 400),
        ("/assets/../../etc/passwd", 404),
    ] {
        refused(&format!("anna: {path}"), code, ground.by(&anna, "GET", path, None)?, "");
    }
    for header in ["impersonate-user: system:admin", "x-remote-user: admin", "x-remote-group: system:masters"]
    {
        let headers = [bob.cookie.as_str(), header];
        refused(header, 403, ground.ask("GET", "/api/api/v1/nodes", &headers, None)?, user);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (code, said) = ground.by(&anna, "GET", &one, None)?;
    ensure!(code == 200, "the machine of lab is there: {said}");
    // An administrator's token for a node is one of Kubernetes' own, for that node.
    let (code, said) = ground.by(&anna, "POST", "/console/join-tokens", Some(&json!({"node": "n4"})))?;
    ensure!(code == 201, "a token for a node: {code} {said}");
    let made: Value = serde_json::from_str(&said)?;
    let table = made["table"].as_str().context("a table")?;
    let (_, token) = table.split_once("token = \"").context("a token")?;
    let name = format!("bootstrap-token-{}", token.get(..6).context("an id")?);
    let token = Api::<Secret>::namespaced(ground.on.client.clone(), "kube-system").get(&name).await?;
    ensure!(token.type_.as_deref() == Some("bootstrap.kubernetes.io/token"), "{token:?}");
    let only_for = token.metadata.annotations.and_then(|all| all.get(TOKEN_NODE_ANNOTATION).cloned());
    ensure!(only_for.as_deref() == Some("n4"), "{only_for:?}");
    // Live: bob is shown shop and never lab.
    let seen = ground.ask("GET", "/console/watch?kinds=machines,projects,nodes", &[&bob.cookie], None)?.1;
    ensure!(seen.contains("\"key\":\"shop/web\""), "{seen}");
    for others in ["\"namespace\":\"lab\"", "\"key\":\"lab/", "\"key\":\"/lab\"", "\"kind\":\"Node\""] {
        ensure!(!seen.contains(others), "{others}: {seen}");
    }
    // Deleted, he is out at once.
    let (code, said) = ground.by(&anna, "DELETE", "/console/users/bob", None)?;
    ensure!(code == 204, "{code} {said}");
    wait("bob is out", async || {
        let out = ground.by(&bob, "GET", &vms("shop"), None).is_ok_and(|(code, _)| code == 401);
        Ok(out.then_some(()))
    })
    .await?;
    let left = ground.on.kubectl(&["get", "rolebindings", "-A", "-l", "console.sheaf.dev/user=bob"])?;
    ensure!(left.contains("No resources found"), "{left}");
    Ok(())
}

/// The code that an authenticator app shows for `secret` at `step`: RFC 6238, written again, as an app does.
fn code_at(secret: &str, step: u64) -> Result<String> {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let five = |letter| ALPHABET.find(letter).context("base32").map(|five| format!("{five:05b}"));
    let bits: String = secret.chars().map(five).collect::<Result<_>>()?;
    let byte = |at: usize| u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2);
    let key: Vec<u8> = (0..bits.len() / 8).map(byte).collect::<Result<_, _>>()?;
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&key)?;
    mac.update(&step.to_be_bytes());
    let sum = mac.finalize().into_bytes();
    let at = usize::from(sum[19] % 16);
    let number = u32::from_be_bytes([sum[at] & 0x7f, sum[at + 1], sum[at + 2], sum[at + 3]]);
    Ok(format!("{:06}", number % 1_000_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_factor_counts_at_every_console_each_code_once_and_an_administrator_removes_it() -> Result<()>
{
    let ground = Ground::make().await?;
    let other = Served::start(&ground.on.plane).await?;
    let (anna, bob) = settled(&ground).await?;
    let (code, said) = ground.by(&bob, "POST", "/console/second", Some(&json!({"password": PASSWORD})))?;
    ensure!(code == 201, "{code} {said}");
    let begun: Value = serde_json::from_str(&said)?;
    let secret = begun["secret"].as_str().context("a secret")?;
    let now = || Ok::<_, anyhow::Error>(std::time::UNIX_EPOCH.elapsed()?.as_secs() / 30);
    let first = now()?;
    let (code, said) = ground.by(
        &bob,
        "POST",
        "/console/second/confirm",
        Some(&json!({"code": code_at(secret, first)?})),
    )?;
    ensure!(code == 200, "{code} {said}");
    let confirmed: Value = serde_json::from_str(&said)?;
    let at = |console: &str, typed: Option<&str>| -> Result<(u16, String)> {
        let mut body = json!({"user": "bob", "password": PASSWORD});
        if let Some(typed) = typed {
            body["code"] = json!(typed);
        }
        ask_at(console, "POST", "/console/login", &[], Some(&body))
    };
    wait("the other console knows the factor", async || {
        let asked = at(&other.address, None);
        Ok(asked.is_ok_and(|(code, said)| code == 401 && said.contains("CodeRequired")).then_some(()))
    })
    .await?;
    let next = code_at(secret, first + 1)?;
    let (code, said) = at(&other.address, Some(&next))?;
    ensure!(code == 200, "{code} {said}");
    for (console, typed) in [
        (&ground.console.address, next.as_str()),
        (&other.address, next.as_str()),
        (&other.address, "12345x"),
    ] {
        let (code, said) = at(console, Some(typed))?;
        ensure!(
            code == 401 && said.contains("the code is wrong, or was used already"),
            "{typed}: {code} {said}"
        );
    }
    let recovery = confirmed["recoveryCodes"][0].as_str().context("a recovery code")?;
    // The record may have been read before the other console wrote it: then it is refused, and not taken.
    wait("a recovery code lets in", async || {
        Ok(at(&ground.console.address, Some(recovery)).is_ok_and(|(code, _)| code == 200).then_some(()))
    })
    .await?;
    let (code, said) = ground.by(&bob, "DELETE", "/console/users/anna/second", None)?;
    ensure!(code == 403 && said.contains("console:bob"), "{code} {said}");
    let (code, said) = ground.by(&anna, "DELETE", "/console/users/bob/second", None)?;
    ensure!(code == 204, "{code} {said}");
    wait("bob logs in with the password", async || {
        Ok(at(&other.address, None).is_ok_and(|(code, _)| code == 200).then_some(()))
    })
    .await
}

/// What the API server lets everybody do who has logged in: ask what he may, and read the sizes that Sheaf brings.
const FOR_ALL: [&str; 4] = [
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "virtualmachineclusterinstancetypes",
    "virtualmachineclusterpreferences",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_that_the_console_offers_is_refused_to_a_user_of_another_project() -> Result<()> {
    let ground = Ground::make().await?;
    let (_, bob) = settled(&ground).await?;
    let mut wrong = Vec::new();
    let (mut refused, mut open) = (0, 0);
    for (method, path) in sheaf_console::offered("lab", "web") {
        let body = (method != http::Method::GET && method != http::Method::DELETE).then(|| json!({}));
        let is_screen = path.ends_with("/vnc") || path.ends_with("/console");
        let (code, said) = if is_screen {
            let headers = [
                bob.cookie.as_str(),
                bob.origin.as_str(),
                "connection: upgrade",
                "upgrade: websocket",
                "sec-websocket-version: 13",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            ];
            ground.ask("GET", &path, &headers, None)?
        } else {
            ground.by(&bob, method.as_str(), &path, body.as_ref())?
        };
        let is_for_all = FOR_ALL.iter().any(|kind| path.split('/').any(|word| word == *kind));
        match (code, is_for_all) {
            (403, false) if said.contains("console:bob") => refused += 1,
            (_, true) => open += 1,
            _ => wrong.push(format!("{method} {path}: {code} {said}")),
        }
    }
    println!("{refused} requests refused, {open} for everybody");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(refused > 100, "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_consoles_identity_impersonates_its_users_and_nobody_else() -> Result<()> {
    let ground = Ground::make().await?;
    let kubeconfig = ground.on.plane.paths.kubernetes.join("sheaf-console.conf").display().to_string();
    let kubectl = |verb: &[&str], words: &[&str]| -> (bool, String) {
        let command = Command::new(kube_binary().map(|path| path.display().to_string()).unwrap_or_default())
            .args(["kubectl", "--kubeconfig", &kubeconfig])
            .args(verb.iter().copied())
            .args(words.iter().copied());
        match System.run(&command) {
            Ok(output) => (true, output.text()),
            Err(error) => (false, error.to_string()),
        }
    };
    let alice = ["--as=console:alice", "--as-group=console:users"];
    let (done, said) = kubectl(&["auth", "whoami"], &alice);
    ensure!(done && said.contains("console:alice") && said.contains("console:users"), "{said}");
    // What is refused to alice is refused to alice.
    let (done, said) = kubectl(&["get", "secrets"], &alice);
    ensure!(!done && said.contains("User \"console:alice\" cannot list"), "{said}");
    let mut wrong = Vec::new();
    for words in [
        &["--as=system:admin"][..],
        &["--as=kubernetes-admin"],
        &["--as=sheaf-controller"],
        &["--as=system:kube-controller-manager"],
        &["--as=system:node:n1", "--as-group=system:nodes"],
        &["--as=system:serviceaccount:kube-system:default"],
        &["--as=consolealice"],
        &["--as=console:alice", "--as-group=system:masters"],
        &["--as=console:alice", "--as-group=console:users", "--as-group=sheaf:administrators"],
        &["--as=console:alice", "--as-uid=1"],
        &["--as=console:alice", "--as-user-extra=scopes=x"],
    ] {
        let (done, said) = kubectl(&["get", "secrets"], words);
        println!("{words:?}: {}", if done { "ACCEPTED" } else { "refused" });
        let why =
            ["User \"sheaf-console\" cannot impersonate", "the console impersonates only its own users"];
        if done || why.iter().any(|why| !said.contains(why)) {
            wrong.push(format!("{words:?}: {said}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// An agent's controller of claims.
struct Claiming {
    ctx: channels::Context,
    // Its channels must stay open.
    _publish: channels::Publish,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Drop for Claiming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Claiming {
    fn start(on: &Controlled) -> Result<Self> {
        let (ctx, mut publish) = channels::open(on.plane.paths.clone(), node_config()?);
        publish.cluster.send_replace(Some(Joined {
            client: on.client.clone(),
            node: "plane".into(),
            node_uid: String::new(),
        }));
        let sections = std::mem::replace(&mut publish.sections, sheaf_agent::status::open().1);
        let task = tokio::spawn(claim::run(ctx.clone(), sections.console));
        Ok(Self { ctx, _publish: publish, task })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_nobody_administers_shows_a_code_until_somebody_has_claimed_it() -> Result<()> {
    let ground = Ground::make().await?;
    let paths = &ground.on.plane.paths;
    let agent = Claiming::start(&ground.on)?;
    let code = wait("the node shows a code", async || Ok(claim::shown(paths).filter(|code| code.len() == 9)))
        .await?;
    let section = wait("the status says so", async || {
        Ok(Some(agent.ctx.status.read().console.clone()).filter(|section| section.claim.is_some()))
    })
    .await?;
    ensure!(section.url == Some(format!("https://{}/", ground.on.plane.address)), "{section:?}");
    let text = format!("{section:?}");
    ensure!(section.fingerprint.is_some() && text.contains("10 tries") && !text.contains(&code), "{text}");
    // A restart of the machine: the code is in no memory any more.
    std::fs::remove_file(paths.claim())?;
    drop(agent);
    let agent = Claiming::start(&ground.on)?;
    let code =
        wait("another code is shown", async || Ok(claim::shown(paths).filter(|now| *now != code))).await?;

    // Who is asked for by nobody, and a name that is somebody's mark.
    let key = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n";
    let by_key = |name: &str, code: &str, key: &str| {
        let body = json!({"code": code, "name": name, "publicKey": key});
        ground.ask("POST", "/console/claim/key", &[], Some(&body))
    };
    for (name, typed, key, status, needle) in [
        ("anna", "00000000", key, 401, "the code is wrong"),
        ("Anna", &*code, key, 422, "a user's name has at most"),
        ("sheaf-admin-0", &*code, key, 422, "a name that begins with sheaf-admin- cannot be chosen"),
        ("anna", &*code, "ssh-ed25519 AAAA", 422, "publicKey is a public key in PEM"),
    ] {
        let (answered, said) = by_key(name, typed, key)?;
        ensure!(answered == status && said.contains(needle), "{name}: {answered} {said}");
    }
    let (answered, said) = by_key("anna", &code, key)?;
    ensure!(answered == 200, "{answered} {said}");
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["server"] == json!(ground.on.plane.server), "{said}");
    let ca = std::fs::read_to_string(paths.kubernetes.join("pki/ca.crt"))?;
    ensure!(said["ca"].as_str().map(str::trim) == Some(ca.trim()), "{said}");
    let maps: Api<ConfigMap> = Api::namespaced(ground.on.client.clone(), "kube-system");
    let list = maps.get("sheaf-administrators").await?.data.unwrap_or_default();
    ensure!(list.get("anna").map(String::as_str) == Some(key), "{list:?}");
    // The agent of a node binds the owner of a key; this one is no key, so the binding is played.
    let bound = ground.on.kubectl_with(
        &["create"],
        &json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "sheaf:administrator:anna", "labels": {"sheaf.dev/administrator": "true"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "sheaf-admin-anna"}]})
        .to_string(),
    )?;
    ensure!(bound.contains("created"), "{bound}");

    let bindings: Api<ClusterRoleBinding> = Api::all(ground.on.client.clone());
    let of_namespace: Api<RoleBinding> = Api::namespaced(ground.on.client.clone(), "kube-system");
    wait("the claim and its rights are gone", async || {
        let is_gone = bindings.get_opt(CLAIM_ROLE).await?.is_none()
            && of_namespace.get_opt(CLAIM_ROLE).await?.is_none()
            && claim::shown(paths).is_none();
        Ok(is_gone.then_some(()))
    })
    .await?;
    let secrets: Api<Secret> = Api::namespaced(ground.on.client.clone(), NAMESPACE);
    ensure!(secrets.get_opt(CLAIM_SECRET).await?.is_none(), "no further code is made");
    wait("the status says nothing of a code", async || {
        Ok(agent.ctx.status.read().console.claim.is_none().then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_and_machines_use_is_read_from_their_agents_and_shown_to_who_may_see_them() -> Result<()> {
    let ground = Ground::make().await?;
    let node = PlayedNode::start(&ground.on).await?;
    let (anna, bob) = settled(&ground).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(ground.on.client.clone());
    machines.create(&PostParams::default(), &played::vm("db", "Always")?).await?;
    let _guest = node.run(&ground.on, "db", "").await?;
    // Of a machine that is not there and of another project's: the node is not believed, or bob is not shown.
    node.vms.count(vec![counted("default_db", 4096), counted("default_none", 8192)]);
    let asked = |browser: &Browser, query: &str| {
        ground.by(browser, "GET", &format!("/console/metrics?{query}"), None)
    };
    let has = |answer: Result<(u16, String)>, list: &str| -> Option<f64> {
        let (code, said) = answer.ok()?;
        let said: Value = serde_json::from_str(&said).ok().filter(|_| code == 200)?;
        said[list].as_array()?.iter().rev().find_map(Value::as_f64)
    };
    // Rates need two rounds, which are 30 s apart.
    for query in ["node=n1", "cluster", "machine=default/db"] {
        let seconds = wait(&format!("{query} was measured twice"), async || {
            Ok(has(asked(&anna, query), "processors").zip(has(asked(&anna, query), "memory")))
        })
        .await?;
        println!("{query}: {seconds:?}");
        let (code, said) = asked(&bob, query)?;
        ensure!(code == 404, "bob: {query}: {code} {said}");
    }
    let memory = has(asked(&anna, "machine=default/db"), "memory");
    ensure!(memory == Some(4096.0 * 1024.0), "{memory:?}");
    let (code, said) = asked(&anna, "machine=default/none")?;
    ensure!(code == 404, "a node reported a machine that does not exist: {code} {said}");
    ensure!(has(asked(&anna, "node=n1"), "received").is_some_and(|bytes| bytes >= 0.0), "NICs of the node");
    let (code, said) = ground.ask("GET", "/console/metrics?cluster", &[], None)?;
    ensure!(code == 401, "{code} {said}");
    Ok(())
}

/// Counters of a domain, as libvirt gives them.
fn counted(name: &str, kib: u64) -> DomainStats {
    let numbers = [("cpu.time".to_owned(), 1_000_000_000), ("balloon.rss".to_owned(), kib)];
    DomainStats { name: name.to_owned(), numbers: numbers.into(), texts: Default::default() }
}

/// MiB of memory that the program may use while nobody is logged in.
const IDLE_MEMORY: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_uses_thirty_mebibytes_while_nobody_is_logged_in() -> Result<()> {
    let on = Controlled::start().await?;
    let program = Program::start(&on.plane).await?;
    let (all, own) = (program.memory("VmRSS")? / 1024, program.memory("RssAnon")? / 1024);
    println!("sheaf-console, idle: {all} MiB, {own} MiB of its own");
    ensure!(all <= IDLE_MEMORY, "{all} MiB, {own} MiB of its own");
    Ok(())
}
