//! `cluster-info`: what a Kubernetes cluster shows, to anybody, before a machine trusts it.
//!
//! Why here: the agent joins by it and the installer checks it before a disk is touched; both must refuse the same
//! things. Nothing in it is believed before [`ClusterInfo::verify`] (the bootstrap token signs it, a detached JWS with
//! HS256) and the CA's pin ([`crate::pin`]). Route in: the body of an HTTP answer, of at most [`BODY_LIMIT`] bytes. Route
//! out: the cluster's CA. The format is kubeadm's: `cmd/kubeadm/app/discovery/token` of Kubernetes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use std::collections::BTreeMap;

/// Where every cluster that kubeadm or Sheaf made shows it.
pub const PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// Most bytes that are read of an answer: a ConfigMap is never larger (etcd takes 1.5 MiB, the API 1 MiB), and the server
/// is not yet known.
pub const BODY_LIMIT: usize = 1 << 20;

/// Why an answer is not a cluster-info that can be believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// Larger than a ConfigMap can be.
    #[error("the answer is larger than 1 MiB")]
    TooLarge,
    /// Not the JSON of a ConfigMap.
    #[error("the answer is not a ConfigMap: {0}")]
    NotAConfigMap(String),
    /// There is no kubeconfig in it.
    #[error("cluster-info holds no kubeconfig")]
    NoKubeconfig,
    /// The kubeconfig in it names no CA.
    #[error("the kubeconfig in cluster-info holds no CA certificate: {0}")]
    NoCa(String),
    /// No signature for this token.
    #[error("it is not signed for token {0}.***")]
    NotSigned(String),
    /// The signature is not a detached JWS.
    #[error("the signature is malformed")]
    Malformed,
    /// Signed by another algorithm.
    #[error("it is signed with {0}, not HS256")]
    Algorithm(String),
    /// The header names another token.
    #[error("it is signed for another token")]
    OtherToken,
    /// The signature is of other bytes, or by another secret.
    #[error("the signature does not match")]
    Mismatch,
}

/// A cluster-info as it was received: not to be believed until it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The kubeconfig, the bytes that are signed.
    pub kubeconfig: String,
    /// Detached JWS by token id.
    signatures: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(rename = "certificate-authority-data")]
    ca: Option<String>,
}

/// Header of a JWS.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

impl ClusterInfo {
    /// Reads the body of an answer: the JSON of the ConfigMap.
    pub fn parse(body: &[u8]) -> Result<Self, InfoError> {
        if body.len() > BODY_LIMIT {
            return Err(InfoError::TooLarge);
        }
        let mut map: ConfigMap =
            serde_json::from_slice(body).map_err(|error| InfoError::NotAConfigMap(error.to_string()))?;
        let kubeconfig = map.data.remove("kubeconfig").ok_or(InfoError::NoKubeconfig)?;
        let signatures = map
            .data
            .into_iter()
            .filter_map(|(name, jws)| Some((name.strip_prefix("jws-kubeconfig-")?.to_owned(), jws)))
            .collect();
        Ok(Self { kubeconfig, signatures })
    }

    /// Whether there is a signature for the token `id`; it is not checked.
    pub fn is_signed_for(&self, id: &str) -> bool {
        self.signatures.contains_key(id)
    }

    /// Checks the signature of the token `id`.`secret` over the kubeconfig.
    pub fn verify(&self, id: &str, secret: &str) -> Result<(), InfoError> {
        let jws = self.signatures.get(id).ok_or_else(|| InfoError::NotSigned(id.to_owned()))?;
        let (header, signature) = jws.split_once("..").ok_or(InfoError::Malformed)?;
        let decoded = URL_SAFE_NO_PAD.decode(header).map_err(|_| InfoError::Malformed)?;
        let fields: Header = serde_json::from_slice(&decoded).map_err(|_| InfoError::Malformed)?;
        if fields.alg != "HS256" {
            return Err(InfoError::Algorithm(fields.alg));
        }
        if fields.kid != id {
            return Err(InfoError::OtherToken);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InfoError::Malformed)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| InfoError::Mismatch)?;
        mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(&self.kubeconfig)).as_bytes());
        mac.verify_slice(&signature).map_err(|_| InfoError::Mismatch)
    }

    /// The CA in the kubeconfig, PEM.
    pub fn ca(&self) -> Result<String, InfoError> {
        let no = |why: String| InfoError::NoCa(why);
        let config: Kubeconfig =
            serde_saphyr::from_str(&self.kubeconfig).map_err(|error| no(error.to_string()))?;
        let cluster = config.clusters.into_iter().next().ok_or_else(|| no("it names no cluster".into()))?;
        let data = cluster.cluster.ca.ok_or_else(|| no("there is none".into()))?;
        let pem = STANDARD.decode(data.trim()).map_err(|error| no(error.to_string()))?;
        String::from_utf8(pem).map_err(|error| no(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "abcdef";
    const SECRET: &str = "0123456789abcdef";

    fn signed(kubeconfig: &str, alg: &str, kid: &str) -> Vec<u8> {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#));
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(kubeconfig)).as_bytes());
        let jws = format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        serde_json::to_vec(
            &serde_json::json!({"data": {"kubeconfig": kubeconfig, "jws-kubeconfig-abcdef": jws}}),
        )
        .unwrap()
    }

    #[test]
    fn a_signature_holds_for_its_payload_and_token_alone() {
        let info = ClusterInfo::parse(&signed("payload", "HS256", ID)).unwrap();
        assert_eq!(info.verify(ID, SECRET), Ok(()));
        assert_eq!(info.verify(ID, "0123456789abcdee"), Err(InfoError::Mismatch));
        assert_eq!(info.verify("zzzzzz", SECRET), Err(InfoError::NotSigned("zzzzzz".into())));
        let mut changed = info;
        changed.kubeconfig.push(' ');
        assert_eq!(changed.verify(ID, SECRET), Err(InfoError::Mismatch));
    }

    #[test]
    fn a_header_that_claims_no_algorithm_or_another_token_is_refused() {
        let by = |alg, kid| ClusterInfo::parse(&signed("payload", alg, kid)).unwrap().verify(ID, SECRET);
        assert_eq!(by("none", ID), Err(InfoError::Algorithm("none".into())));
        assert_eq!(by("HS256", "zzzzzz"), Err(InfoError::OtherToken));
    }

    #[test]
    fn an_answer_larger_than_a_config_map_can_be_is_not_parsed() {
        let body = signed(&"x".repeat(BODY_LIMIT), "HS256", ID);
        assert_eq!(ClusterInfo::parse(&body), Err(InfoError::TooLarge));
    }

    #[test]
    fn the_ca_is_found_in_yaml_and_in_json() {
        let data = STANDARD.encode("CA");
        for kubeconfig in [
            format!(
                "apiVersion: v1\nclusters:\n- name: ''\n  cluster:\n    certificate-authority-data: {data}\n    server: https://a\n"
            ),
            format!(r#"{{"clusters": [{{"cluster": {{"certificate-authority-data": "{data}"}}}}]}}"#),
        ] {
            assert_eq!(ClusterInfo::parse(&signed(&kubeconfig, "HS256", ID)).unwrap().ca(), Ok("CA".into()));
        }
        let none = ClusterInfo::parse(&signed("clusters: []\n", "HS256", ID)).unwrap();
        assert_eq!(none.ca(), Err(InfoError::NoCa("it names no cluster".into())));
    }
}
