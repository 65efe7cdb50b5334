//! Kubeconfig files, and clients from PEM.
//!
//! Why here: one form for every credential the agent makes or uses. Route in: server, CA, certificate, key. Route
//! out: a file's text, or a client.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{
    AuthInfo, Cluster, Context as KubeContext, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster,
    NamedContext,
};
use secrecy::SecretString;
use std::path::Path;
use std::time::Duration;

/// How long a connection may take to open.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A whole kubeconfig with one user; JSON is YAML.
pub fn render(server: &str, ca: &str, user: &str, certificate: &str, key: &str) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sheaf", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca)}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key)}}],
        "contexts": [{"name": "sheaf", "context": {"cluster": "sheaf", "user": user}}],
        "current-context": "sheaf",
    });
    format!("{config:#}\n")
}

/// The client certificate (PEM) and server of the kubeconfig `path`, when it is one.
pub fn certificate_and_server(path: &Path) -> Option<(String, String)> {
    let config = Kubeconfig::from_yaml(&std::fs::read_to_string(path).ok()?).ok()?;
    let server = config.clusters.first()?.cluster.as_ref()?.server.clone()?;
    let data = config.auth_infos.first()?.auth_info.as_ref()?.client_certificate_data.as_deref()?;
    Some((String::from_utf8(STANDARD.decode(data).ok()?).ok()?, server))
}

/// The CA (PEM) in the kubeconfig `path`, when it is one.
pub fn authority(path: &Path) -> Option<String> {
    let config = Kubeconfig::from_yaml(&std::fs::read_to_string(path).ok()?).ok()?;
    let data = config.clusters.first()?.cluster.as_ref()?.certificate_authority_data.as_deref()?;
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

/// Who speaks to the API server.
pub enum Credentials<'a> {
    /// Nobody in particular.
    Anonymous,
    /// Anyone who holds a bootstrap token.
    Token(&'a str),
    /// Holder of a certificate and its key, both PEM.
    Certificate(&'a str, &'a str),
}

/// A client of `server`; without `ca` its certificate is not verified.
pub async fn client(
    server: &str,
    ca: Option<&str>,
    credentials: Credentials<'_>,
) -> anyhow::Result<kube::Client> {
    client_by_name(server, ca, credentials, None).await
}

/// [`client`] of a server whose certificate has `name`, whatever its address.
pub async fn client_by_name(
    server: &str,
    ca: Option<&str>,
    credentials: Credentials<'_>,
    name: Option<&str>,
) -> anyhow::Result<kube::Client> {
    let mut user = AuthInfo::default();
    match credentials {
        Credentials::Anonymous => {}
        Credentials::Token(token) => user.token = Some(SecretString::from(token.to_owned())),
        Credentials::Certificate(certificate, key) => {
            user.client_certificate_data = Some(STANDARD.encode(certificate));
            user.client_key_data = Some(SecretString::from(STANDARD.encode(key)));
        }
    }
    let cluster = Cluster {
        server: Some(server.to_owned()),
        certificate_authority_data: ca.map(|ca| STANDARD.encode(ca)),
        insecure_skip_tls_verify: ca.is_none().then_some(true),
        tls_server_name: name.map(str::to_owned),
        ..Cluster::default()
    };
    let context =
        KubeContext { cluster: "sheaf".into(), user: Some("sheaf".into()), ..KubeContext::default() };
    let config = Kubeconfig {
        clusters: vec![NamedCluster {
            name: "sheaf".into(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: "sheaf".into(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: "sheaf".into(),
            context: Some(context),
            ..NamedContext::default()
        }],
        current_context: Some("sheaf".into()),
        ..Kubeconfig::default()
    };
    from(config).await
}

/// A client from the kubeconfig file `path`.
pub async fn client_from_file(path: &Path) -> anyhow::Result<kube::Client> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    from(Kubeconfig::from_yaml(&text).with_context(|| format!("{}: is not a kubeconfig", path.display()))?)
        .await
}

async fn from(config: Kubeconfig) -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(CONNECT_TIME);
    Ok(kube::Client::try_from(config)?)
}
