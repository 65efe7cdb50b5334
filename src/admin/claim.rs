//! `sheaf admin claim`: the first administrator of a cluster, without a browser.
//!
//! Why here: a cluster that was made without `admin-keys` shows a code on its first node's screens; who types it here has a
//! kubeconfig a minute later. The server is known by its certificate's SHA-256, which that screen shows too: given as an argument, or
//! compared by the person, as with ssh. Route in: URL, code, a name. Route out: three files in a folder: key, its public half,
//! kubeconfig.

use super::{Public, certificate, key_pair, kubeconfig_of};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use sheaf_config::pin::CaPin;
use sheaf_host::call::{Call, Http, Request};
use sheaf_host::file::write_atomically;
use sheaf_host::trust::{Fingerprint, Trust, presented};
use sheaf_host::wait;
use std::io::{BufRead, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One request to a node that may be an emulated one.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// The agent of the first node looks once a minute; an emulated node takes its time.
const CERTIFICATE_TIME: Duration = Duration::from_secs(180);
/// Between two looks whether the certificate is there.
const LOOK: Duration = Duration::from_secs(2);
/// The port of `https`.
const HTTPS: u16 = 443;

#[derive(clap::Args)]
pub struct Arguments {
    /// The console, as the node's screen shows it: https://ADDRESS/
    #[arg(long)]
    server: String,
    /// The code that the screen shows: XXXX-XXXX
    #[arg(long)]
    code: String,
    /// SHA-256 of the console's certificate, as the screen shows it; without it you are asked
    #[arg(long)]
    fingerprint: Option<String>,
    /// The API server, if it is reached by another address from here: https://ADDRESS:6443
    #[arg(long)]
    api_server: Option<String>,
    /// Where to put admin.key, admin.pub and kubeconfig; an admin.key that is there is used
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Your name in the list of administrators: lowercase letters, digits, hyphens
    name: String,
}

/// What the console answered: where the cluster is.
#[derive(Debug, PartialEq, Eq)]
struct Claimed {
    server: String,
    ca: CaPin,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { server, code, fingerprint, api_server, dir, name } = arguments;
    let (host, port) = place(server)?;
    let target = dir.join("kubeconfig");
    ensure!(
        !target.exists(),
        "{} is there already; it is not overwritten: choose another folder with --dir",
        target.display()
    );
    let fingerprint = match fingerprint {
        Some(text) => Fingerprint::parse(text).with_context(|| {
            format!("\"{text}\" is not a SHA-256: write its 64 hex digits, with or without colons")
        })?,
        None => {
            let found = presented(&host, port, REQUEST_TIME)
                .with_context(|| format!("{server} cannot be reached; is the first node up?"))?;
            ensure!(
                std::io::stdin().is_terminal(),
                "nobody can be asked whether {server} is the right one: its certificate has the SHA-256 {}; compare it with the \
                 node's screen and give it with --fingerprint",
                colons(&found)
            );
            ask(server, &found, &mut std::io::stdin().lock(), &mut std::io::stderr())?;
            found
        }
    };
    let (key, public) = own_key(dir)?;
    let url = format!("https://{}:{port}/console/claim/key", bracketed(&host));
    let claimed = claim(&Http, &url, fingerprint, code, name, &public.pem)?;
    eprintln!("{name} is an administrator; waiting for the certificate of the key");
    let server = api_server.as_deref().unwrap_or(&claimed.server).trim_end_matches('/').to_owned();
    let mut last = None;
    let found = wait::until(CERTIFICATE_TIME, LOOK, || match certificate(&server, &public, &claimed.ca) {
        Ok(found) => found,
        // It may be restarting.
        Err(error) => {
            last = Some(error);
            None
        }
    });
    let found = found.ok_or_else(|| {
        let why = last.map(|error| format!(" ({error:#})")).unwrap_or_default();
        anyhow!(
            "{server} shows no certificate for the key within {} s{why}; you are in the list of administrators: try `sheaf admin \
             kubeconfig --server {server} --key {} --ca-hash {}`",
            CERTIFICATE_TIME.as_secs(),
            dir.join("admin.key").display(),
            claimed.ca
        )
    })?;
    write_atomically(&target, kubeconfig_of(&server, &found, &key)?.as_bytes(), 0o600)?;
    eprintln!("{}: kubectl --kubeconfig {} get nodes", target.display(), target.display());
    Ok(())
}

/// Host and port of `https://HOST[:PORT]/`.
fn place(server: &str) -> Result<(String, u16)> {
    let wrong = || {
        anyhow!(
            "\"{server}\" is not the address of a console: write https://ADDRESS/, as the node's screen shows it"
        )
    };
    let rest = server.strip_prefix("https://").ok_or_else(wrong)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    ensure!(!rest.is_empty() && !rest.contains(['/', '@', '?', '#', ' ']), wrong());
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or_else(|| after.is_empty().then_some("443")).ok_or_else(wrong)?)
        }
        None => rest.split_once(':').unwrap_or((rest, "443")),
    };
    ensure!(!host.is_empty(), wrong());
    let port = if port.is_empty() { HTTPS } else { port.parse().map_err(|_| wrong())? };
    Ok((host.to_owned(), port))
}

/// A host as it is in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// As the screen and browsers show it.
fn colons(fingerprint: &Fingerprint) -> String {
    let bytes: Vec<String> = fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

/// Has a person compare the certificate; an error unless the answer is yes.
fn ask(server: &str, found: &Fingerprint, from: &mut impl BufRead, to: &mut impl Write) -> Result<()> {
    write!(
        to,
        "The certificate of {server} has the SHA-256\n  {}\nDoes the node's screen show the same? (yes/no) ",
        colons(found)
    )?;
    to.flush()?;
    let mut answer = String::new();
    from.read_line(&mut answer)?;
    ensure!(
        answer.trim() == "yes",
        "nothing was sent to {server}; possible man-in-the-middle: if the screen shows another certificate, tell who runs the network"
    );
    Ok(())
}

/// The key in `dir`, made if there is none.
fn own_key(dir: &Path) -> Result<(String, Public)> {
    let path = dir.join("admin.key");
    if !path.exists() {
        return key_pair(dir);
    }
    let pem =
        std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let public = Public::of(&pem, &path)?;
    Ok((pem, public))
}

/// Sends the code and the key.
fn claim(
    call: &dyn Call,
    url: &str,
    fingerprint: Fingerprint,
    code: &str,
    name: &str,
    public: &str,
) -> Result<Claimed> {
    let body = json!({"code": code, "name": name, "publicKey": public}).to_string().into_bytes();
    let request = Request {
        method: "POST".into(),
        url: url.to_owned(),
        headers: vec![("content-type".into(), "application/json".into())],
        body,
        trust: Trust::Certificate(fingerprint),
        deadline: REQUEST_TIME,
    };
    let reply = call
        .call(&request)
        .context("the code was not sent; compare --server and --fingerprint with the node's screen")?;
    let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if reply.status != 200 {
        let message = said["message"].as_str().unwrap_or("no reason was given");
        bail!("the cluster was not claimed: {message}");
    }
    let text = |name: &str| {
        said[name]
            .as_str()
            .with_context(|| format!("the console's answer has no {name}: is it of another version?"))
    };
    Ok(Claimed { server: text("server")?.to_owned(), ca: CaPin::of_certificate(text("ca")?)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::pkcs8::LineEnding;
    use sheaf_host::fakes::FakeCall;
    use x509_cert::der::{Decode as _, EncodePem as _};

    const URL: &str = "https://192.0.2.10:443/console/claim/key";

    fn sent(call: &FakeCall) -> Result<Claimed> {
        claim(call, URL, Fingerprint([7; 32]), "01AB-23CD", "anna", "PEM")
    }

    #[test]
    fn the_address_of_a_console_is_taken_as_the_screen_shows_it() {
        let of = |text: &str| place(text).unwrap();
        assert_eq!(of("https://192.0.2.10/"), ("192.0.2.10".into(), 443));
        assert_eq!(of("https://cluster.example:8443"), ("cluster.example".into(), 8443));
        assert_eq!(of("https://[2001:db8::10]/"), ("2001:db8::10".into(), 443));
        assert_eq!(of("https://[2001:db8::10]:8443/"), ("2001:db8::10".into(), 8443));
        assert_eq!(bracketed("2001:db8::10"), "[2001:db8::10]");
        for wrong in [
            "http://192.0.2.10/",
            "192.0.2.10",
            "https://",
            "https://a/b",
            "https://a@b/",
            "https://a:x/",
            "https://[::1",
            "https://[::1]8443",
        ] {
            assert_eq!(
                place(wrong).unwrap_err().to_string(),
                format!(
                    "\"{wrong}\" is not the address of a console: write https://ADDRESS/, as the node's screen shows it"
                )
            );
        }
    }

    #[test]
    fn a_person_compares_the_certificate_and_only_yes_is_yes() {
        let found = Fingerprint([0xab; 32]);
        let mut shown = Vec::new();
        ask("https://a/", &found, &mut "yes\n".as_bytes(), &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains(&vec!["AB"; 32].join(":")), "{shown}");
        for answer in ["", "y\n", "no\n", "Yes\n"] {
            let refused = ask("https://a/", &found, &mut answer.as_bytes(), &mut Vec::new()).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "nothing was sent to https://a/; possible man-in-the-middle: if the screen shows another certificate, tell who \
                 runs the network"
            );
        }
    }

    #[test]
    fn a_refusal_of_the_console_is_told_in_its_words_and_an_answer_says_where_the_cluster_is() {
        let refused = FakeCall::default().answers(URL, 401, r#"{"message": "the code is wrong"}"#);
        assert_eq!(sent(&refused).unwrap_err().to_string(), "the cluster was not claimed: the code is wrong");
        let old = FakeCall::default().answers(URL, 200, r#"{"name": "anna"}"#);
        assert_eq!(
            sent(&old).unwrap_err().to_string(),
            "the console's answer has no server: is it of another version?"
        );
        let made = rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap();
        let ca = x509_cert::Certificate::from_der(made.cert.der()).unwrap().to_pem(LineEnding::LF).unwrap();
        let body = json!({"name": "anna", "server": "https://192.0.2.10:6443", "ca": ca}).to_string();
        let call = FakeCall::default().answers(URL, 200, body);
        let claimed = sent(&call).unwrap();
        let ca = CaPin::of_certificate(&ca).unwrap();
        assert_eq!(claimed, Claimed { server: "https://192.0.2.10:6443".into(), ca });
        let asked = call.asked();
        assert_eq!(asked[0].trust, Trust::Certificate(Fingerprint([7; 32])), "to this server and no other");
        let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
        assert_eq!(body, json!({"code": "01AB-23CD", "name": "anna", "publicKey": "PEM"}));
        let silent = sent(&FakeCall::default()).unwrap_err();
        assert_eq!(
            silent.to_string(),
            "the code was not sent; compare --server and --fingerprint with the node's screen"
        );
    }

    #[test]
    fn a_key_that_is_there_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let (first, public) = own_key(dir.path()).unwrap();
        let (again, same) = own_key(dir.path()).unwrap();
        assert_eq!((first, &public.pem), (again, &same.pem));
        assert!(public.pem.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{}", public.pem);
        assert_eq!(std::fs::read_to_string(dir.path().join("admin.pub")).unwrap(), public.pem);
    }
}
