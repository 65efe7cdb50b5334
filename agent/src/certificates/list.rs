//! Every certificate and key pair of this node, as it is on disk.
//!
//! Why a table: a file that is in no table is looked at by nobody until it has expired; what the control plane makes is taken
//! from the tables by which it is made. Route in: the node's files, its part in the cluster. Route out: [`Entry`]s, a row each.
//! Reads files, so it blocks.

use crate::cluster::create::console::is_given;
use crate::cluster::create::pki::{AUTHORITIES, KUBECONFIGS, LEAVES, Pki};
use crate::cluster::identity::{CLIENT, SERVING, Store};
use crate::cluster::keys::{self, Facts, Key};
use crate::cluster::kubeconfig;
use crate::encryption::keys::FILE as ENCRYPTION_KEYS;
use crate::paths::Paths;
use sheaf_api::console::IDENTITY as CONSOLE_USER;
use sheaf_api::names::CONTROLLER_USER;
use sheaf_config::node::{Cluster, ClusterMode};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// What this node is to its cluster: which files it has, and who makes another of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In no cluster.
    None,
    /// It joined one: its certificates are signed over the API server.
    Joined,
    /// It made one: its agent holds the CAs, and signs what expired while it was off.
    Created,
}

impl Part {
    /// By node.toml.
    pub fn of(cluster: Option<&Cluster>) -> Self {
        match cluster.map(|cluster| cluster.mode) {
            None => Self::None,
            Some(ClusterMode::Join) => Self::Joined,
            Some(ClusterMode::Create) => Self::Created,
        }
    }
}

/// Who makes another before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The agent of this node, with the CA on it: leaves when a third of their life is left, CAs two years before their end. The
    /// services that use it are restarted.
    Agent,
    /// The agent of this node asks the cluster for it, at 70 to 90 % of its life.
    Cluster,
    /// The agent of a node fetches what the agents of control-plane nodes made.
    Fetched,
    /// The operator, in node.toml.
    Given,
    /// It does not end.
    Endless,
}

impl Renewal {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Cluster => "agent, signed by the cluster",
            Self::Fetched => "agent, from the cluster",
            Self::Given => "you, in node.toml",
            Self::Endless => "-",
        }
    }
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A certificate.
    Certificate(Facts),
    /// A key that no certificate is for.
    Key,
    /// Nothing: there is no such file.
    Missing,
    /// Something that cannot be read, and why.
    Damaged(String),
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is for.
    pub name: String,
    /// Where it lies.
    pub file: PathBuf,
    /// Who makes another.
    pub renewal: Renewal,
    /// What is in it.
    pub contents: Contents,
}

/// All of a node with this part.
pub fn list(paths: &Paths, part: Part) -> Vec<Entry> {
    let mut entries = Vec::new();
    let pki = Pki { dir: paths.kubernetes.clone() };
    // A control-plane node that joined has them from when it received the cluster's keys.
    if part == Part::Created || part == Part::Joined && pki.file("ca.key").exists() {
        entries.extend(control_plane(&pki));
    }
    if part != Part::None {
        let store = Store::of(paths);
        for (name, file, renewal) in [
            ("the cluster's CA, as this node trusts it", "ca.crt".to_owned(), Renewal::Fetched),
            ("client certificate of this node", format!("{CLIENT}.pem"), Renewal::Cluster),
            ("serving certificate of this node", format!("{SERVING}.pem"), Renewal::Cluster),
        ] {
            entries.push(certificate(name.into(), store.dir.join(file), renewal));
        }
    }
    entries
}

fn control_plane(pki: &Pki) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (name, _) in AUTHORITIES {
        entries.push(certificate(format!("CA {name}"), pki.file(&format!("{name}.crt")), Renewal::Agent));
    }
    for leaf in LEAVES.into_iter().chain(["sheaf-controller-serving", "sheaf-console-serving"]) {
        let is_given = leaf == "sheaf-console-serving" && is_given(pki);
        let renewal = if is_given { Renewal::Given } else { Renewal::Agent };
        entries.push(certificate(leaf.into(), pki.file(&format!("{leaf}.crt")), renewal));
    }
    for name in KUBECONFIGS.into_iter().chain([CONTROLLER_USER, CONSOLE_USER]) {
        let file = pki.kubeconfig(name);
        let contents = match kubeconfig::certificate_and_server(&file) {
            Some((pem, _)) => read_certificate(&pem),
            None if file.exists() => Contents::Damaged("holds no client certificate".into()),
            None => Contents::Missing,
        };
        entries.push(Entry { name: format!("kubeconfig {name}"), file, renewal: Renewal::Agent, contents });
    }
    for (name, file, is_good) in [
        ("key of service accounts", "sa.key", is_key as fn(&str) -> bool),
        ("keys of Secrets in etcd", ENCRYPTION_KEYS, |text| {
            serde_json::from_str::<serde_json::Value>(text).is_ok()
        }),
    ] {
        let file = pki.file(file);
        let contents = match fs::read_to_string(&file) {
            Ok(text) if is_good(&text) => Contents::Key,
            Ok(_) => Contents::Damaged("holds no key".into()),
            Err(error) => unread(&error),
        };
        entries.push(Entry { name: name.into(), file, renewal: Renewal::Endless, contents });
    }
    entries
}

/// kubeadm's key of service accounts is an RSA or an EC key, by its version.
fn is_key(text: &str) -> bool {
    Key::from_pem(text).is_ok() || text.contains("PRIVATE KEY-----")
}

fn certificate(name: String, file: PathBuf, renewal: Renewal) -> Entry {
    let contents = match fs::read_to_string(&file) {
        Ok(pem) => read_certificate(&pem),
        Err(error) => unread(&error),
    };
    Entry { name, file, renewal, contents }
}

fn read_certificate(pem: &str) -> Contents {
    match keys::facts(pem) {
        Ok(facts) => Contents::Certificate(facts),
        Err(error) => Contents::Damaged(format!("{error:#}")),
    }
}

fn unread(error: &std::io::Error) -> Contents {
    match error.kind() {
        ErrorKind::NotFound => Contents::Missing,
        _ => Contents::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::create::pki::tests::{fake_kubeadm, plane};
    use std::time::SystemTime;

    #[test]
    fn every_certificate_that_a_control_plane_makes_is_in_the_list() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let pki = Pki { dir: paths.kubernetes.clone() };
        pki.ensure(&plane(), &fake_kubeadm(), SystemTime::now()).unwrap();
        let listed = list(&paths, Part::Created);
        assert_eq!(list(&paths, Part::Joined), listed, "a control-plane node that joined has the same");
        let mut folders = vec![paths.kubernetes.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.to_string_lossy().ends_with(".key") {
                    let entry = listed.iter().find(|entry| entry.file == path);
                    let entry = entry.unwrap_or_else(|| panic!("{} is not in the list", path.display()));
                    assert!(matches!(entry.contents, Contents::Certificate(_)), "{entry:?}");
                }
            }
        }
        let missing: Vec<_> = listed
            .iter()
            .filter(|entry| entry.contents == Contents::Missing)
            .map(|entry| &*entry.name)
            .collect();
        assert_eq!(
            missing,
            [
                "sheaf-controller-serving",
                "sheaf-console-serving",
                "kubeconfig sheaf-controller",
                "kubeconfig sheaf-console",
                "key of service accounts",
                "keys of Secrets in etcd",
                "the cluster's CA, as this node trusts it",
                "client certificate of this node",
                "serving certificate of this node",
            ],
            "they are made later"
        );
    }

    #[test]
    fn a_worker_has_its_own_alone_and_a_node_without_a_cluster_none() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(Store::of(&paths).dir).unwrap();
        fs::write(Store::of(&paths).dir.join("ca.crt"), "no PEM").unwrap();
        let listed = list(&paths, Part::Joined);
        let shown: Vec<_> = listed.iter().map(|entry| (&*entry.name, entry.contents.clone())).collect();
        assert_eq!(shown.len(), 3);
        assert_eq!(
            shown[0],
            (
                "the cluster's CA, as this node trusts it",
                Contents::Damaged("there is no CERTIFICATE block".into())
            )
        );
        assert_eq!(list(&paths, Part::None), []);
    }
}
