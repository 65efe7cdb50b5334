//! Bootstrap tokens: their form, and the Secrets that make them valid.
//!
//! Why here: the first node's own way in, the operator's token of node.toml and `sheaf-agent token create` are all
//! such Secrets. Route in: a client that may write `kube-system`. Route out: Secret `bootstrap-token-<id>`.

use super::create::kubeadm::BOOTSTRAP_GROUP;
use super::kubeconfig;
use crate::paths::Paths;
use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use sheaf_config::pin::CaPin;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Namespace of bootstrap tokens.
const NAMESPACE: &str = "kube-system";

/// Label of tokens that a node.toml made valid; they go when it no longer names them.
const FROM_CONFIG: &str = "sheaf.dev/from-node-toml";

/// Letters of a token.
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// `<6>.<16>`; never shown by Debug.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Public half, names the Secret.
    pub id: String,
    secret: String,
}

impl Token {
    /// A new one from the kernel's random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut letters = String::new();
        while letters.len() < 22 {
            let mut byte = [0];
            getrandom::fill(&mut byte).map_err(|error| anyhow!("no random numbers: {error}"))?;
            // 252 is the largest multiple of 36 below 256: what lies above would favour some letters.
            if byte[0] < 252 {
                letters.push(char::from(ALPHABET[usize::from(byte[0] % 36)]));
            }
        }
        let secret = letters.split_off(6);
        Ok(Self { id: letters, secret })
    }

    /// The secret half: signs cluster-info.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The whole token, for the one who is to use it.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.***)", self.id)
    }
}

impl FromStr for Token {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let fits =
            |part: &str, length| part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte));
        match text.split_once('.') {
            Some((id, secret)) if fits(id, 6) && fits(secret, 16) => {
                Ok(Self { id: id.into(), secret: secret.into() })
            }
            // What was written is not repeated: it may be a token with a slip.
            _ => {
                bail!("the token is not of the form abcdef.0123456789abcdef (lower case letters and digits)")
            }
        }
    }
}

/// Makes `token` valid, for `lifetime` from now or until it is deleted.
pub async fn allow(
    client: &kube::Client,
    token: &Token,
    lifetime: Option<Duration>,
    description: &str,
    from_config: bool,
) -> anyhow::Result<()> {
    let mut data = BTreeMap::from([
        ("token-id", token.id.clone()),
        ("token-secret", token.secret.clone()),
        ("usage-bootstrap-authentication", "true".into()),
        ("usage-bootstrap-signing", "true".into()),
        ("auth-extra-groups", BOOTSTRAP_GROUP.into()),
        ("description", description.into()),
    ]);
    if let Some(lifetime) = lifetime {
        data.insert("expiration", super::time::rfc3339(std::time::SystemTime::now() + lifetime));
    }
    let name = format!("bootstrap-token-{}", token.id);
    let labels = if from_config { serde_json::json!({FROM_CONFIG: "true"}) } else { serde_json::json!({}) };
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": data,
    });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let apply = PatchParams::apply("sheaf-agent").force();
    secrets
        .patch(&name, &apply, &Patch::Apply(&secret))
        .await
        .context("the bootstrap token can not be stored")?;
    Ok(())
}

/// Makes the token of node.toml the only one that node.toml ever made valid.
pub async fn allow_configured(client: &kube::Client, token: Option<&Token>) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let wanted = token.map(|token| format!("bootstrap-token-{}", token.id));
    let before = secrets.list(&ListParams::default().labels(FROM_CONFIG)).await?;
    for name in before.items.into_iter().filter_map(|secret| secret.metadata.name) {
        if wanted.as_deref() != Some(name.as_str()) {
            secrets.delete(&name, &DeleteParams::default()).await?;
        }
    }
    match token {
        Some(token) => allow(client, token, None, "From node.toml of the first node", true).await,
        None => Ok(()),
    }
}

/// Ends the validity of `token`.
pub async fn revoke(client: &kube::Client, token: &Token) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    match secrets.delete(&format!("bootstrap-token-{}", token.id), &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(error) if super::is_status(&error, 404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a token valid for `hours` and returns what a joining node's node.toml needs, ready to paste.
pub async fn create(paths: &Paths, hours: u32) -> anyhow::Result<String> {
    let file = paths.kubernetes.join("super-admin.conf");
    let client = kubeconfig::client_from_file(&file)
        .await
        .context("tokens are made on a control-plane node, as root")?;
    let (_, server) =
        kubeconfig::certificate_and_server(&file).context("super-admin.conf names no server")?;
    let ca = paths.kubernetes.join("pki/ca.crt");
    let ca = std::fs::read_to_string(&ca).with_context(|| format!("{}: can not be read", ca.display()))?;
    let token = Token::generate()?;
    let lifetime = Duration::from_secs(u64::from(hours) * 3600);
    allow(&client, &token, Some(lifetime), "Made by sheaf-agent token create", false).await?;
    let (pin, token) = (CaPin::of_certificate(&ca)?, token.reveal());
    Ok(format!(
        "[cluster]\nmode = \"join\"\nserver = \"{server}\"\ntoken = \"{token}\"\nca-hash = \"{pin}\"\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_reads_back_and_hides_its_secret() {
        let token = Token::generate().unwrap();
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains(token.secret()));
    }

    #[test]
    fn a_refused_token_is_not_repeated_in_the_error() {
        for bad in ["", "abcdef", "abcdef.0123456789abcdeF", "abcdef.0123456789abcdef0"] {
            let error = bad.parse::<Token>().unwrap_err().to_string();
            assert!(bad.is_empty() || !error.replace("abcdef.0123456789abcdef", "").contains(bad), "{error}");
        }
    }
}
