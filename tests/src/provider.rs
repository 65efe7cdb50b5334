//! An OpenID Connect provider: zitadel's, built from its Go module (`tests/provider/`), by TLS.
//!
//! Why here: what a console and an API server take from a provider is shown by one that is nobody's own. Route in: where it listens,
//! where it sends people back to. Route out: its issuer and CA; a person logs in as a browser does; the provider ends with its
//! [`OpenIdProvider`].

use crate::console::ask;
use crate::go;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sheaf_host::run::{Command, System};
use sheaf_host::wait::until;
use std::fs;
use std::net::IpAddr;
use std::process::Child;
use std::time::Duration;

/// Longest start.
const START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// The one client, its secret, the one person's password and subject (`tests/provider/main.go`).
pub const CLIENT: &str = "sheaf";
/// Of the client.
pub const SECRET: &str = "secret";
/// Of the person.
pub const SUBJECT: &str = "id1";
const PASSWORD: &str = "verysecure";

/// A provider that answers.
pub struct OpenIdProvider {
    /// Its URL.
    pub issuer: String,
    /// CA of its certificate, PEM.
    pub authority: String,
    address: IpAddr,
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for OpenIdProvider {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl OpenIdProvider {
    /// Starts one at `address`, which sends people back to `callback`.
    pub fn start(address: IpAddr, callback: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = sheaf_machine::ports::free_port()?;
        let mut own = rcgen::CertificateParams::new(Vec::<String>::new())?;
        own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(own, rcgen::KeyPair::generate()?)?;
        let key = rcgen::KeyPair::generate()?;
        let certificate =
            rcgen::CertificateParams::new(vec![address.to_string()])?.signed_by(&key, &*authority)?;
        let file = |name: &str| folder.path().join(name);
        fs::write(file("certificate.pem"), certificate.pem())?;
        fs::write(file("key.pem"), key.serialize_pem())?;
        let listen = format!("{address}:{port}");
        let command = Command::new(go::program("provider", "")?)
            .args(["-address", &listen, "-callback", callback, "-certificate"])
            .arg(file("certificate.pem"))
            .arg("-key")
            .arg(file("key.pem"))
            .log(file("log"));
        let provider = Self {
            issuer: format!("https://{listen}"),
            authority: authority.pem(),
            address,
            child: System.start(&command)?,
            folder,
        };
        let page = format!("{}/.well-known/openid-configuration", provider.issuer);
        let answers =
            until(START, LOOK, || ask("", &[], &page).ok().filter(|answer| answer.status == 200).map(drop));
        answers.with_context(|| format!("the provider does not answer: {}", provider.log()))?;
        Ok(provider)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// The person logs in on the page at `url`; where the provider sends the browser back to.
    pub fn log_in(&self, url: &str) -> Result<String> {
        let page = ask("", &[], url)?;
        let place = page.location();
        let id = place.split_once("authRequestID=").map(|(_, id)| id);
        let id = id.with_context(|| format!("{url}: {} {}", page.status, page.text()))?;
        let form = [
            format!("username=test-user@{}", self.address),
            format!("password={PASSWORD}"),
            format!("id={id}"),
        ];
        let words: Vec<&str> = form.iter().flat_map(|field| ["--data-urlencode", field.as_str()]).collect();
        let sent = ask("", &words, &format!("{}/login/username", self.issuer))?;
        ensure!(sent.status == 302, "{} {}", sent.status, sent.text());
        let place = sent.location();
        let next = match place.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.issuer),
            None => place,
        };
        Ok(ask("", &[], &next)?.location())
    }

    /// The ID token for `code`, as a program of the client asks for it.
    pub fn token(&self, code: &str, verifier: &str, redirect: &str) -> Result<String> {
        let form = [
            "grant_type=authorization_code".to_owned(),
            format!("code={code}"),
            format!("redirect_uri={redirect}"),
            format!("code_verifier={verifier}"),
        ];
        let client = format!("{CLIENT}:{SECRET}");
        let mut words = vec!["-u", client.as_str()];
        words.extend(form.iter().flat_map(|field| ["--data-urlencode", field.as_str()]));
        let answer = ask("", &words, &format!("{}/oauth/token", self.issuer))?;
        let answered: Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
        answered["id_token"].as_str().map(str::to_owned).with_context(|| answer.text())
    }
}
