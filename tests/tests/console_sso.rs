//! Login at an identity provider: at the console as a browser, at the real API server with a token.
//!
//! Why here: console, API server and provider each judge what another one says; a provider that is nobody's own, and the API server's own
//! code, show that they agree. Route in: an administrator sets the provider. Route out: a person has a session and, by kubectl, the
//! same rights; who is no user has neither.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sheaf_agent::api_server::Joined;
use sheaf_agent::{channels, identity_provider};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::cluster::kube_binary;
use sheaf_tests::console::{Browser, PASSWORD, Served, ask, node_config};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::provider::{CLIENT, OpenIdProvider, SECRET, SUBJECT};

const VMS: &str = "/api/apis/kubevirt.io/v1/namespaces/default/virtualmachines";

struct Ground {
    on: Controlled,
    console: Served,
    provider: OpenIdProvider,
    anna: Browser,
    agent: tokio::task::JoinHandle<anyhow::Result<()>>,
    _publish: channels::Publish,
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

impl Ground {
    /// With a provider that anna has set, and the part of the agent that tells the API server.
    async fn make() -> Result<Self> {
        let on = Controlled::start().await?;
        let console = Served::start(&on.plane).await?;
        let callback = format!("{}/console/sso/callback", console.address);
        let provider = OpenIdProvider::start(on.plane.near_address(), &callback)?;
        let anna = Browser::claim(&on.plane, &console.address, "anna").await?;
        let (ctx, publish) = channels::open(on.plane.paths.clone(), node_config()?);
        publish.cluster.send_replace(Some(Joined {
            client: on.client.clone(),
            node: "plane".into(),
            node_uid: String::new(),
        }));
        let agent = tokio::spawn(identity_provider::run(ctx));
        let wanted = json!({
            "provider": {"issuer": provider.issuer, "clientID": CLIENT, "usernameClaim": "sub",
                         "certificateAuthority": provider.authority},
            "clientSecret": SECRET,
        });
        let (status, said) = anna.ask("PUT", "/console/sso", Some(&wanted))?.said();
        ensure!(status == 204, "{status} {said}");
        Ok(Self { on, console, provider, anna, agent, _publish: publish })
    }

    /// The person logs in; where the console sends the browser at last, and its cookies.
    fn log_in(&self) -> Result<(String, Vec<String>)> {
        let begun = ask(&self.console.address, &[], "/console/sso/begin")?;
        ensure!(begun.status == 303, "{} {}", begun.status, begun.text());
        let cookie = format!("cookie: {}", begun.cookies().first().context("a cookie")?);
        let back = self.provider.log_in(&begun.location())?;
        ensure!(back.starts_with(&self.console.address), "{back}");
        // As browsers send what another site caused.
        let done = ask("", &["-H", &cookie, "-H", "sec-fetch-site: cross-site"], &back)?;
        ensure!(done.status == 303, "{} {}", done.status, done.text());
        // What was answered once is over: the code is used up.
        let again = ask("", &["-H", &cookie], &back)?;
        ensure!(again.location() == "/#/login/provider", "a code is good once: {}", again.location());
        let other = ask("", &[], &back)?;
        ensure!(other.location() == "/#/login/expired", "another browser's: {}", other.location());
        Ok((done.location(), done.cookies()))
    }

    /// An ID token of the person, as kubectl's plug-ins get it.
    fn token(&self) -> Result<String> {
        let verifier = "v".repeat(43);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let redirect = format!("{}/console/sso/callback", self.console.address);
        let url = format!(
            "{}/auth?response_type=code&client_id={CLIENT}&scope=openid&state=s&nonce=n&redirect_uri={redirect}\
             &code_challenge={challenge}&code_challenge_method=S256",
            self.provider.issuer
        );
        let back = self.provider.log_in(&url)?;
        let code =
            back.split_once("code=").context("a code")?.1.split('&').next().unwrap_or_default().to_owned();
        self.provider.token(&code, &verifier, &redirect)
    }

    /// What kubectl says with this token.
    fn kubectl(&self, token: &str, words: &[&str]) -> Result<String> {
        let server = &self.on.plane.server;
        let command = Command::new(kube_binary()?)
            .arg("kubectl")
            .args([
                "--kubeconfig=/dev/null",
                "--insecure-skip-tls-verify",
                "--server",
                server,
                "--token",
                token,
            ])
            .args(words)
            .any_code();
        let output = System.run(&command)?;
        Ok(format!("{}{}", output.text(), String::from_utf8_lossy(&output.stderr)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_name_at_the_provider_logs_in_there_and_has_the_same_roles_by_kubectl() -> Result<()> {
    let ground = Ground::make().await?;
    let (place, cookies) = ground.log_in()?;
    ensure!(place == "/#/login/unknown", "nobody is this person: {place}");
    ensure!(
        !cookies.iter().any(|cookie| cookie.contains("sheaf-session=") && !cookie.ends_with('=')),
        "{cookies:?}"
    );

    let carol =
        json!({"name": "carol", "external": SUBJECT, "roles": [{"role": "view", "project": "default"}]});
    let (status, said) = ground.anna.ask("POST", "/console/users", Some(&carol))?.said();
    ensure!(status == 201, "{status} {said}");
    let twin = json!({"name": "twin", "external": SUBJECT});
    let mut cookie = String::new();
    wait("the console knows carol", async || {
        let Ok((place, cookies)) = ground.log_in().inspect_err(|error| eprintln!("{error:#}")) else {
            return Ok(None);
        };
        cookie = cookies
            .into_iter()
            .find(|cookie| cookie.starts_with("__Host-sheaf-session="))
            .unwrap_or_default();
        Ok((place == "/").then_some(()))
    })
    .await?;
    let (status, said) = ground.anna.ask("POST", "/console/users", Some(&twin))?.said();
    ensure!(status == 409 && said.contains("is the user carol already"), "{status} {said}");

    let origin = format!("origin: {}", ground.console.address);
    let cookie = format!("cookie: {cookie}");
    let by_carol = |words: &[&str], path: &str| {
        let words = [&["-H", &cookie, "-H", &origin, "-H", "x-sheaf-console: 1"][..], words].concat();
        ask(&ground.console.address, &words, path)
    };
    let session = by_carol(&[], "/console/session")?;
    ensure!(session.status == 200 && session.text().contains(r#""user":"carol""#), "{}", session.text());
    wait("carol sees her project", async || {
        Ok(by_carol(&[], VMS).is_ok_and(|answer| answer.status == 200).then_some(()))
    })
    .await?;
    let vm = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web"}})
        .to_string();
    let refused = by_carol(&["-H", "content-type: application/json", "--data", &vm], VMS)?;
    ensure!(refused.status == 403 && refused.text().contains("console:carol"), "{}", refused.text());
    let wrong = json!({"user": "carol", "password": PASSWORD}).to_string();
    let wrong = by_carol(&["-H", "content-type: application/json", "--data", &wrong], "/console/login")?;
    ensure!(wrong.status == 401, "there is no password: {}", wrong.status);

    let token = ground.token()?;
    // The API server looks at its file once a minute.
    wait("the API server takes the provider's tokens", async || {
        let said = ground.kubectl(&token, &["auth", "whoami", "-o", "json"]);
        Ok(said.is_ok_and(|said| said.contains(&format!("oidc:{SUBJECT}"))).then_some(()))
    })
    .await?;
    let said = ground.kubectl(&token, &["get", "vm", "-n", "default"])?;
    ensure!(said.contains("No resources found"), "{said}");
    let said = ground.kubectl(&token, &["delete", "vm", "web", "-n", "default"])?;
    ensure!(said.contains(&format!("User \"oidc:{SUBJECT}\" cannot delete")), "{said}");
    let said = ground.kubectl(&token, &["get", "nodes"])?;
    ensure!(said.contains("cannot list resource \"nodes\""), "{said}");
    let mut forged = token.clone();
    forged.replace_range(token.len() - 8.., "AAAAAAAA");
    let said = ground.kubectl(&forged, &["get", "vm", "-n", "default"])?;
    ensure!(said.contains("Unauthorized") || said.contains("must be logged in"), "{said}");

    // Without the name both end.
    let none = json!({"external": ""});
    let (status, said) = ground.anna.ask("PATCH", "/console/users/carol", Some(&none))?.said();
    ensure!(status == 204, "{status} {said}");
    wait("carol is out", async || {
        Ok(by_carol(&[], "/console/session").is_ok_and(|answer| answer.status == 401).then_some(()))
    })
    .await?;
    wait("and so is her token", async || {
        let said = ground.kubectl(&token, &["get", "vm", "-n", "default"]);
        Ok(said.is_ok_and(|said| said.contains("cannot list")).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_nobody_may_set_or_that_the_api_server_would_not_take_is_refused() -> Result<()> {
    let ground = Ground::make().await?;
    let bob =
        json!({"name": "bob", "password": PASSWORD, "roles": [{"role": "administer", "project": "default"}]});
    let (status, said) = ground.anna.ask("POST", "/console/users", Some(&bob))?.said();
    ensure!(status == 201, "{status} {said}");
    wait("the console knows bob", async || {
        Ok(Browser::log_in(&ground.console.address, "bob").ok().map(drop))
    })
    .await?;
    let bob = Browser::log_in(&ground.console.address, "bob")?;
    let own = json!({"provider": {"issuer": "https://evil.example", "clientID": "x"}});
    let (status, said) = bob.ask("PUT", "/console/sso", Some(&own))?.said();
    ensure!(status == 403 && said.contains("console:bob"), "{status} {said}");
    for (field, value, why) in [
        ("issuer", "http://login.example.org", "spec.identityProvider.issuer"),
        ("issuer", "https://kubernetes.default.svc", "the cluster's own service accounts"),
        ("clientID", "", "spec.identityProvider.clientID"),
        ("usernameClaim", "a b", "spec.identityProvider.usernameClaim"),
    ] {
        let mut provider = json!({"issuer": "https://login.example.org", "clientID": "sheaf"});
        provider[field] = json!(value);
        let (status, said) =
            ground.anna.ask("PUT", "/console/sso", Some(&json!({"provider": provider})))?.said();
        ensure!(status == 422 && said.contains(why), "{field} {value}: {status} {said}");
    }
    let (_, said) = ground.anna.ask("GET", "/console/sso", None)?.said();
    ensure!(said.contains(&ground.on.plane.near_address().to_string()), "what was set stays: {said}");
    let (status, said) = ground.anna.ask("PUT", "/console/sso", Some(&json!({"provider": null})))?.said();
    ensure!(status == 204, "{status} {said}");
    let (_, said) = ground.anna.ask("GET", "/console/sso", None)?.said();
    ensure!(said == r#"{"provider":null}"#, "{said}");
    Ok(())
}
