//! `sheaf admin`: the administrator's way into a cluster that has no ssh.
//!
//! Route in: `new` makes a key, whose public half goes into node.toml; `kubeconfig` asks the running cluster for the
//! certificate it signed for that key; [`claim`] makes the first administrator of a cluster that was made without a key; [`code`] lets an
//! administrator by key make one of the console. Route out: two files; a kubeconfig on standard output. The private half never
//! leaves this machine, and nothing is believed before the CA's pin has been compared.

mod claim;
pub mod code;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use sheaf_config::pin::CaPin;
use sheaf_host::file::write_atomically;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use x509_cert::der::{DecodePem, Encode};

/// One request to a node that may be an emulated one.
const REQUEST_TIME: Duration = Duration::from_secs(20);

/// Where certificates of administrators are published; anyone may read it.
const ACCESS: &str = "/api/v1/namespaces/kube-public/configmaps/sheaf-access";

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key: DIR/admin.key stays here, DIR/admin.pub goes into admin-keys of node.toml
    New {
        /// Where to put both
        dir: PathBuf,
    },
    /// Print the kubeconfig for a key listed in admin-keys
    Kubeconfig {
        /// The first node: https://ADDRESS:6443
        #[arg(long)]
        server: String,
        /// The private key that `sheaf admin new` made
        #[arg(long)]
        key: PathBuf,
        /// The cluster's CA hash, from the first node's screen: sha256:…
        #[arg(long)]
        ca_hash: CaPin,
    },
    /// Claim a cluster that has no administrator, with the code on its first node's screen
    Claim(claim::Arguments),
    /// Print a Secret that lets one more person become an administrator in the console: sheaf admin code | kubectl apply -f -
    Code,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::New { dir } => new(dir),
        Command::Claim(arguments) => claim::run(arguments),
        Command::Code => code::run(),
        Command::Kubeconfig { server, key, ca_hash } => {
            print!("{}", kubeconfig(server.trim_end_matches('/'), key, ca_hash)?);
            Ok(())
        }
    }
}

fn new(dir: &Path) -> Result<()> {
    let private = dir.join("admin.key");
    if private.exists() {
        bail!("{} is there already; it is not overwritten: choose another folder", private.display());
    }
    key_pair(dir)?;
    eprintln!("{}: keep it secret", private.display());
    eprintln!(
        "{}: its text goes into admin-keys of `[cluster]` in the first node's node.toml",
        dir.join("admin.pub").display()
    );
    Ok(())
}

/// The public half of a key.
struct Public {
    /// SubjectPublicKeyInfo.
    der: Vec<u8>,
    pem: String,
}

impl Public {
    /// That of the private key in `pem`, which is from `file`.
    fn of(pem: &str, file: &Path) -> Result<Self> {
        let private = p256::SecretKey::from_pkcs8_pem(pem).map_err(|error| {
            anyhow!("{}: is not a key made by `sheaf admin new`: {error}", file.display())
        })?;
        let public = private.public_key();
        Ok(Self {
            der: public.to_public_key_der().map_err(|error| anyhow!("{error}"))?.into_vec(),
            pem: public.to_public_key_pem(LineEnding::LF).map_err(|error| anyhow!("{error}"))?,
        })
    }
}

/// Makes `dir`/admin.key and `dir`/admin.pub; answers the private half in PEM, and the public one.
fn key_pair(dir: &Path) -> Result<(String, Public)> {
    let (private, public) = (dir.join("admin.key"), dir.join("admin.pub"));
    let mut bytes = [0; 32];
    let key = loop {
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
        if let Ok(key) = p256::SecretKey::from_slice(&bytes) {
            break key;
        }
    };
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| anyhow!("{error}"))?;
    let half = Public::of(&pem, &private)?;
    write_atomically(&private, pem.as_bytes(), 0o600)?;
    write_atomically(&public, half.pem.as_bytes(), 0o644)?;
    Ok((pem.to_string(), half))
}

fn kubeconfig(server: &str, key: &Path, pin: &CaPin) -> Result<String> {
    let pem = std::fs::read_to_string(key).with_context(|| format!("{}: cannot be read", key.display()))?;
    let public = Public::of(&pem, key)?;
    let found = certificate(server, &public, pin)?.ok_or_else(|| {
        anyhow!("the cluster has no certificate for {}: its admin.pub must be listed in admin-keys of the first node's node.toml, or be added by `sheaf-agent administrators add`, and not be revoked", key.display())
    })?;
    kubeconfig_of(server, &found, &pem)
}

/// A key's certificate, and what the cluster says of itself.
struct Found {
    /// Its CA, PEM.
    ca: String,
    /// PEM.
    certificate: String,
    /// The API server by the address for people.
    vip: Option<String>,
}

/// What the cluster at `server`, whose CA has this pin, publishes for a key; none if nothing.
fn certificate(server: &str, public: &Public, pin: &CaPin) -> Result<Option<Found>> {
    let name = format!("{}.crt", CaPin::of_public_key(&public.der).hex());
    let first = fetch(server, None)?;
    let ca = entry(&first, "ca.crt").ok_or_else(|| anyhow!("{server} does not say which CA it has"))?;
    let found = CaPin::of_certificate(ca)?;
    if found != *pin {
        bail!(
            "{server} has the CA {found}, not {pin}; possible man-in-the-middle: compare with the first node's screen"
        );
    }
    // The CA is the right one; what it vouches for is what counts.
    let verified = fetch(server, Some(ca))?;
    let Some(certificate) = entry(&verified, &name) else { return Ok(None) };
    let parsed = x509_cert::Certificate::from_pem(certificate)
        .context("the cluster's certificate for this key is damaged")?;
    if parsed.tbs_certificate().subject_public_key_info().to_der()? != public.der {
        bail!("the certificate that {server} shows is for another key");
    }
    let vip = entry(&verified, "server").map(str::to_owned);
    Ok(Some(Found { ca: ca.to_owned(), certificate: certificate.to_owned(), vip }))
}

/// The kubeconfig of who has the private key `pem`.
fn kubeconfig_of(server: &str, found: &Found, pem: &str) -> Result<String> {
    let Found { ca, certificate, vip } = found;
    let parsed = x509_cert::Certificate::from_pem(certificate)?;
    let end = parsed.tbs_certificate().validity().not_after;
    // Standard output is the file.
    eprintln!(
        "valid until {end}; print it again with the same key before that, at the earliest 10 days before"
    );
    let server = for_people(server, vip.as_deref(), |vip| {
        fetch(vip, Some(ca)).inspect_err(|error| {
            eprintln!("{vip}, the cluster's address for people, does not answer from here ({error:#}): {server} is used");
        })
        .is_ok()
    });
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sheaf", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca)}}],
        "users": [{"name": "admin", "user": {
            "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(pem)}}],
        "contexts": [{"name": "sheaf", "context": {"cluster": "sheaf", "user": "admin"}}],
        "current-context": "sheaf",
    });
    // JSON is YAML.
    Ok(format!("{config:#}\n"))
}

/// The server of the kubeconfig: the cluster's address for people if it has one that `answers`, else the one that was asked.
fn for_people(asked: &str, vip: Option<&str>, answers: impl FnOnce(&str) -> bool) -> String {
    let vip = vip.filter(|vip| vip.starts_with("https://") && *vip != asked);
    vip.filter(|vip| answers(vip)).unwrap_or(asked).to_owned()
}

fn entry<'a>(map: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    map.get("data")?.get(name)?.as_str()
}

/// The access ConfigMap of `server`, whose certificate is verified when `ca` is known.
fn fetch(server: &str, ca: Option<&str>) -> Result<serde_json::Value> {
    let tls = match ca {
        None => TlsConfig::builder().disable_verification(true).build(),
        Some(ca) => {
            let certificate = Certificate::from_pem(ca.as_bytes())?;
            TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[certificate])).build()
        }
    };
    let agent: ureq::Agent =
        ureq::Agent::config_builder().tls_config(tls).timeout_global(Some(REQUEST_TIME)).build().into();
    let url = format!("{server}{ACCESS}");
    let text =
        agent.get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string()).with_context(
            || format!("{url}: no answer; is the first node up, and are admin-keys in its node.toml?"),
        )?;
    serde_json::from_str(&text).with_context(|| format!("{url}: the answer is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_has_the_address_for_people_if_it_answers_and_else_the_server_that_was_asked() {
        let (asked, vip) = ("https://192.0.2.10:6443", "https://192.0.2.100:6443");
        assert_eq!(for_people(asked, Some(vip), |_| true), vip);
        assert_eq!(for_people(asked, Some(vip), |_| false), asked);
        assert_eq!(for_people(asked, None, |_| panic!("nothing to ask")), asked);
        assert_eq!(for_people(asked, Some("http://192.0.2.100"), |_| panic!("no such URL is asked")), asked);
        assert_eq!(for_people(vip, Some(vip), |_| panic!("it was asked already")), vip);
    }
}
