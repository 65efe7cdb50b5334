//! Who asks: the user whom kube-apiserver names in headers, believed by its client certificate alone.
//!
//! Why here: kube-apiserver has authenticated the user; this server has to know only that it is kube-apiserver that says so.
//! Which CA and which names that is, kube-apiserver writes into `kube-system/extension-apiserver-authentication`, and
//! rewrites when they change. Route in: that ConfigMap, watched; per request the verified certificate's name and headers.
//! Route out: [`Front`] for the listener, a [`User`] or a refusal.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;
use x509_cert::{
    Certificate,
    der::Decode,
    der::asn1::{PrintableStringRef, Utf8StringRef},
};

/// The ConfigMap.
const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// commonName
const COMMON_NAME: x509_cert::der::oid::ObjectIdentifier =
    x509_cert::der::oid::ObjectIdentifier::new_unwrap("2.5.4.3");

/// How kube-apiserver is recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// CA of its client certificate, PEM.
    pub authority: String,
    /// Common names that it may have; empty is any.
    names: Vec<String>,
    /// Headers with the user's name.
    users: Vec<String>,
    /// Headers with groups.
    groups: Vec<String>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

impl Front {
    /// Reads the ConfigMap's data; `None` while it names no CA.
    pub fn read(data: &BTreeMap<String, String>) -> Option<Self> {
        let list = |key: &str| -> Vec<String> {
            data.get(key).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        Some(Self {
            authority: data.get("requestheader-client-ca-file").filter(|pem| !pem.trim().is_empty())?.clone(),
            names: list("requestheader-allowed-names"),
            users: list("requestheader-username-headers"),
            groups: list("requestheader-group-headers"),
        })
    }

    /// The user of a request; `certificate` is the verified one of the connection, in DER.
    pub fn user(&self, certificate: Option<&[u8]>, headers: &HeaderMap) -> Option<User> {
        let name = common_name(certificate?)?;
        if !self.names.is_empty() && !self.names.contains(&name) {
            return None;
        }
        let first = |header: &String| Some(headers.get(header)?.to_str().ok()?.to_owned());
        let user = self.users.iter().find_map(first).filter(|user| !user.is_empty())?;
        let all = |header: &String| -> Vec<String> {
            headers.get_all(header).iter().filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect()
        };
        Some(User { name: user, groups: self.groups.iter().flat_map(all).collect() })
    }
}

/// The first common name of a certificate's subject.
fn common_name(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let subject = certificate.tbs_certificate().subject();
    let part = subject.iter().find(|part| part.oid == COMMON_NAME)?;
    let utf8 = Utf8StringRef::try_from(&part.value).map(|text| text.as_str().to_owned());
    utf8.or_else(|_| PrintableStringRef::try_from(&part.value).map(|text| text.as_str().to_owned())).ok()
}

/// Keeps `out` as the ConfigMap says; the last one stays while the API server is away.
pub async fn follow(client: Client, out: watch::Sender<Option<Arc<Front>>>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-system");
    let which = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let mut events = watcher(maps, which).default_backoff().applied_objects().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(map) => match Front::read(&map.data.unwrap_or_default()) {
                Some(front) => {
                    out.send_if_modified(|held| {
                        let is_new = held.as_deref() != Some(&front);
                        if is_new {
                            *held = Some(Arc::new(front));
                        }
                        is_new
                    });
                }
                None => tracing::warn!(
                    "ConfigMap kube-system/{CONFIG_MAP} names no CA; start kube-apiserver with --requestheader-client-ca-file"
                ),
            },
            Err(error) => tracing::warn!("ConfigMap kube-system/{CONFIG_MAP} cannot be watched: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed certificate, `openssl req -x509 -newkey ec -subj /O=x/CN=front-proxy-client`, made by the agent's code in
    /// the rung-4 tests; here the names alone matter.
    fn front(names: &str) -> Front {
        let data = BTreeMap::from([
            ("requestheader-client-ca-file".to_owned(), "PEM".to_owned()),
            ("requestheader-allowed-names".to_owned(), names.to_owned()),
            ("requestheader-username-headers".to_owned(), r#"["X-Remote-User"]"#.to_owned()),
            ("requestheader-group-headers".to_owned(), r#"["X-Remote-Group"]"#.to_owned()),
        ]);
        Front::read(&data).unwrap()
    }

    #[test]
    fn headers_without_a_certificate_name_nobody() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "admin".parse().unwrap());
        headers.insert("x-remote-group", "system:masters".parse().unwrap());
        assert_eq!(front("[]").user(None, &headers), None);
        assert_eq!(front("[]").user(Some(b"no certificate"), &headers), None);
    }

    #[test]
    fn a_config_map_without_a_ca_is_not_used() {
        assert_eq!(Front::read(&BTreeMap::new()), None);
    }
}
