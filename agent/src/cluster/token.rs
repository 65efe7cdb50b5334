//! Bootstrap tokens: their form, and the Secrets that make them valid.
//!
//! Why here: the first node's own token, the operator's token of node.toml and `sheaf-agent token create` are all such
//! Secrets. Every one is good for one node (sheaf-controller sees to that) and ends by itself. Route in: a client that may write `kube-system`. Route out: Secret `bootstrap-token-<id>`.

use super::{kubeconfig, servers};
use crate::paths::Paths;
use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use sheaf_api::join_token;
use sheaf_config::pin::CaPin;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Namespace of bootstrap tokens.
pub(crate) const NAMESPACE: &str = join_token::NAMESPACE;

/// ConfigMap that notes which tokens of node.toml were made valid, and when: by id.
const OFFERED: &str = "sheaf-node-toml-tokens";

/// How long a token is valid unless somebody says otherwise: long enough to install one machine.
pub const LIFETIME: Duration = Duration::from_secs(join_token::LIFETIME);

/// The longest that may be asked for.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

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
        let (id, secret) = join_token::draw(|| {
            let mut byte = [0];
            getrandom::fill(&mut byte).map(|()| byte[0])
        })
        .map_err(|error| anyhow!("no random numbers: {error}"))?;
        Ok(Self { id, secret })
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
        match text.split_once('.') {
            Some((id, secret)) if join_token::is_half(id, 6) && join_token::is_half(secret, 16) => {
                Ok(Self { id: id.into(), secret: secret.into() })
            }
            // What was written is not repeated: it may be a token with a slip.
            _ => {
                bail!("the token is not of the form abcdef.0123456789abcdef (lower case letters and digits)")
            }
        }
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// How long it is valid.
    pub lifetime: Duration,
    /// What people read in the Secret.
    pub description: &'a str,
    /// The only node that may use it.
    pub only_for: Option<&'a str>,
}

/// Makes `token` valid for one node, as `grant` says.
pub async fn allow(client: &kube::Client, token: &Token, grant: Grant<'_>) -> anyhow::Result<()> {
    let name = format!("bootstrap-token-{}", token.id);
    let ends = super::time::rfc3339(std::time::SystemTime::now() + grant.lifetime);
    let shared = join_token::Grant { ends: &ends, description: grant.description, only_for: grant.only_for };
    let secret = join_token::secret(&token.id, &token.secret, shared);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let apply = PatchParams::apply("sheaf-agent").force();
    secrets
        .patch(&name, &apply, &Patch::Apply(&secret))
        .await
        .context("the bootstrap token cannot be stored")?;
    Ok(())
}

/// Makes the token of node.toml valid for one node and for [`LIFETIME`], once: a token that was offered is never offered
/// again, whatever became of it. So it ends though node.toml still holds it.
pub async fn allow_configured(client: &kube::Client, token: Option<&Token>) -> anyhow::Result<()> {
    let Some(token) = token else { return Ok(()) };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let offered = maps.get_opt(OFFERED).await?.and_then(|map| map.data).unwrap_or_default();
    if offered.contains_key(&token.id) {
        return Ok(());
    }
    let grant = Grant { lifetime: LIFETIME, description: "From node.toml of the first node", only_for: None };
    allow(client, token, grant).await?;
    let now = super::time::rfc3339(std::time::SystemTime::now());
    let note = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": OFFERED, "namespace": NAMESPACE}, "data": {token.id.as_str(): now},
    });
    // Merged, so that earlier notes stay.
    match maps.patch(OFFERED, &PatchParams::default(), &Patch::Merge(&note)).await {
        Err(error) if super::is_status(&error, 404) => {
            maps.create(&PostParams::default(), &serde_json::from_value(note)?).await?;
        }
        answer => drop(answer?),
    }
    Ok(())
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

/// Makes a token valid for one node and for `lifetime`, and returns what that node's node.toml needs, ready to paste. With
/// `only_for` no other node may use it.
pub async fn create(paths: &Paths, lifetime: Duration, only_for: Option<&str>) -> anyhow::Result<String> {
    let client = administrator(paths).await?;
    let file = paths.kubernetes.join("super-admin.conf");
    let (_, own) = kubeconfig::certificate_and_server(&file).context("super-admin.conf names no server")?;
    let server = join_token::server(&servers::published_vips(&client).await?, own);
    let ca = paths.kubernetes.join("pki/ca.crt");
    let ca = std::fs::read_to_string(&ca).with_context(|| format!("{}: cannot be read", ca.display()))?;
    let token = Token::generate()?;
    let grant = Grant { lifetime, description: "Made by sheaf-agent token create", only_for };
    allow(&client, &token, grant).await?;
    let (pin, token) = (CaPin::of_certificate(&ca)?, token.reveal());
    Ok(join_token::table(&server, &token, &pin.to_string()))
}

/// A client that may do everything, on a control-plane node.
pub async fn administrator(paths: &Paths) -> anyhow::Result<kube::Client> {
    kubeconfig::client_from_file(&paths.kubernetes.join("super-admin.conf"))
        .await
        .context("this works on a control-plane node, as root")
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
