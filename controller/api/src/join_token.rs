//! A token by which one more node joins: its letters, the Secret that makes it valid, the table of node.toml that has it.
//!
//! Why here: the agent makes tokens on a control-plane node, the console makes them for an administrator's browser; sheaf-controller and
//! the node that joins must not see a difference. Pure. Route in: random bytes, names. Route out: values and text. Source:
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};

use crate::names::TOKEN_NODE_ANNOTATION;

/// Namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
/// Type of the Secrets.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Group of nodes that come by token; kubeadm's own name, which its role bindings use.
pub const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Seconds for which a token is valid unless somebody says otherwise: long enough to install one machine.
pub const LIFETIME: u64 = 3600;
/// Namespace of [`SERVERS`].
pub const SERVERS_NAMESPACE: &str = "kube-public";
/// ConfigMap with `https://HOST:6443` by name of node, and with the address for people by [`VIP`] and name of node.
pub const SERVERS: &str = "sheaf-api-servers";
/// What the key of an address for people begins with. No name of a node has such letters.
pub const VIP: &str = "VIP_";

/// Letters of a token.
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Letters of its public half, which names the Secret.
const ID: usize = 6;
/// Letters of both halves.
const LETTERS: usize = 22;

/// Both halves of a new token, from random bytes.
pub fn draw<E>(mut random: impl FnMut() -> Result<u8, E>) -> Result<(String, String), E> {
    let mut letters = String::new();
    while letters.len() < LETTERS {
        let byte = random()?;
        // 252 is the largest multiple of 36 below 256: what lies above would favour some letters.
        if byte < 252 {
            letters.push(char::from(ALPHABET[usize::from(byte % 36)]));
        }
    }
    let secret = letters.split_off(ID);
    Ok((letters, secret))
}

/// Whether `text` may be a half of a token.
pub fn is_half(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// When it ends, RFC 3339.
    pub ends: &'a str,
    /// What people read in the Secret.
    pub description: &'a str,
    /// The only node that may use it.
    pub only_for: Option<&'a str>,
}

/// The Secret that makes the token `id`.`secret` valid for one node.
pub fn secret(id: &str, secret: &str, grant: Grant<'_>) -> Value {
    let annotations: BTreeMap<_, _> =
        grant.only_for.map(|node| (TOKEN_NODE_ANNOTATION, node)).into_iter().collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": NAMESPACE, "annotations": annotations},
        "type": TYPE,
        "stringData": {
            "token-id": id,
            "token-secret": secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": GROUP,
            "description": grant.description,
            "expiration": grant.ends,
        },
    })
}

/// What node.toml of a node that joins needs, ready to paste.
pub fn table(server: &str, token: &str, ca_hash: &str) -> String {
    format!(
        "[cluster]\nmode = \"join\"\nserver = \"{server}\"\ntoken = \"{token}\"\nca-hash = \"{ca_hash}\"\n"
    )
}

/// The server that a node joins by: the address for people if there is one, which is at a node that is up; else `own`.
pub fn server(vips: &[IpAddr], own: String) -> String {
    match vips {
        [IpAddr::V4(vip)] => format!("https://{vip}:6443"),
        [IpAddr::V6(vip)] => format!("https://[{vip}]:6443"),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_every_letter_as_often_as_any_other() {
        let mut bytes = (0..=255_u8).cycle();
        let (id, secret) = draw(|| bytes.next().ok_or(())).unwrap();
        assert_eq!((id.as_str(), secret.as_str()), ("012345", "6789abcdefghijkl"));
        // Bytes above 251 are drawn again.
        let mut high = [255, 252, 0].into_iter().chain(std::iter::repeat(35));
        assert_eq!(draw(|| high.next().ok_or(())).unwrap().0, "0zzzzz");
        assert!(is_half(&id, 6) && is_half(&secret, 16) && !is_half("ABCDEF", 6) && !is_half("abcde", 6));
        assert_eq!(draw(|| Err::<u8, _>("no random numbers")), Err("no random numbers"));
    }

    #[test]
    fn the_secret_is_one_that_kubernetes_takes_for_a_bootstrap_token() {
        let grant = Grant { ends: "2026-01-01T12:00:00Z", description: "x", only_for: Some("n4") };
        let made = secret("abcdef", "0123456789abcdef", grant);
        assert_eq!(made["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(made["metadata"]["namespace"], "kube-system");
        assert_eq!(made["metadata"]["annotations"][TOKEN_NODE_ANNOTATION], "n4");
        assert_eq!(made["type"], "bootstrap.kubernetes.io/token");
        assert_eq!(made["stringData"]["expiration"], "2026-01-01T12:00:00Z");
        let free = secret("abcdef", "0123456789abcdef", Grant { only_for: None, ..grant });
        assert_eq!(free["metadata"]["annotations"], json!({}));
    }

    #[test]
    fn a_node_joins_by_the_address_for_people_unless_nodes_disagree_about_it() {
        let own = || "https://192.0.2.10:6443".to_owned();
        assert_eq!(server(&[], own()), own());
        assert_eq!(server(&["2001:db8::100".parse().unwrap()], own()), "https://[2001:db8::100]:6443");
        assert_eq!(server(&[[192, 0, 2, 100].into()], own()), "https://192.0.2.100:6443");
        assert_eq!(server(&[[192, 0, 2, 100].into(), [192, 0, 2, 101].into()], own()), own());
    }

    #[test]
    fn the_table_is_what_a_person_pastes() {
        assert_eq!(
            table("https://192.0.2.10:6443", "abcdef.0123456789abcdef", "sha256:aa"),
            "[cluster]\nmode = \"join\"\nserver = \"https://192.0.2.10:6443\"\ntoken = \"abcdef.0123456789abcdef\"\nca-hash = \
             \"sha256:aa\"\n"
        );
    }
}
