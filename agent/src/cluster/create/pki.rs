//! Keys, certificates and kubeconfigs of the control plane, whole after a power cut at any point.
//!
//! Why here: kubeadm writes file by file and does not sync. So it writes into a directory of its own, which is
//! synced and then moved into place. Route in: a [`ControlPlane`]. Route out: `/var/lib/kubernetes/{pki,*.conf}`,
//! and whether anything changed.

use super::kubeadm::{self, ControlPlane};
use crate::cluster::{keys, kubeconfig};
use anyhow::Context as _;
use sheaf_host::file::{rename_durably, sync_tree, write_atomically};
use sheaf_host::run::Run;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Kubeconfigs the control plane needs, by kubeadm's names.
const KUBECONFIGS: [&str; 3] = ["super-admin", "controller-manager", "scheduler"];

/// Leaf certificates that kubeadm makes; it gives them one year.
const LEAVES: [&str; 7] = [
    "apiserver",
    "apiserver-kubelet-client",
    "apiserver-etcd-client",
    "front-proxy-client",
    "etcd/server",
    "etcd/peer",
    "etcd/healthcheck-client",
];

/// A certificate with less than this left is made anew: a third of kubeadm's year.
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 3600);

/// Files of the control plane's identity.
#[derive(Clone, Debug)]
pub struct Pki {
    /// `/var/lib/kubernetes`.
    pub dir: PathBuf,
}

impl Pki {
    /// A file under `pki/`, `ca.crt`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(name)
    }

    /// A kubeconfig, `super-admin`.
    pub fn kubeconfig(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.conf"))
    }

    /// Makes what is missing, broken, expiring at `now` or of another address; true when something was made.
    pub fn ensure(&self, plane: &ControlPlane, run: &dyn Run, now: SystemTime) -> anyhow::Result<bool> {
        let making = self.dir.join("making");
        // Left by a power cut: never complete, never used.
        if making.exists() {
            fs::remove_dir_all(&making)
                .with_context(|| format!("{}: can not be removed", making.display()))?;
        }
        let mut changed = false;
        if !self.file("ca.crt").exists() {
            let config = write_config(plane, &making.join("pki"), &making)?;
            run.run(&kubeadm::phase(&["certs", "all"], &config))?;
            sync_tree(&making)?;
            rename_durably(&making.join("pki"), &self.dir.join("pki"))?;
            changed = true;
        }
        let stale: Vec<_> = LEAVES.into_iter().filter(|leaf| !self.leaf_is_good(leaf, plane, now)).collect();
        if !stale.is_empty() {
            tracing::info!(?stale, "certificates of the control plane are made anew");
            self.remake_leaves(&stale, plane, run, &making)?;
            changed = true;
        }
        for name in KUBECONFIGS {
            if !self.kubeconfig_is_good(name, plane, now) {
                let config = write_config(plane, &self.dir.join("pki"), &making)?;
                let phase =
                    kubeadm::phase(&["kubeconfig", name], &config).arg("--kubeconfig-dir").arg(&making);
                run.run(&phase)?;
                let made = making.join(format!("{name}.conf"));
                sync_tree(&made)?;
                rename_durably(&made, &self.kubeconfig(name))?;
                changed = true;
            }
        }
        if making.exists() {
            fs::remove_dir_all(&making)
                .with_context(|| format!("{}: can not be removed", making.display()))?;
        }
        Ok(changed)
    }

    /// Copies the CAs aside, has kubeadm make the leaves beside them, moves those in place: key first, then
    /// certificate. A power cut in between leaves a pair that does not match, which is found next time.
    fn remake_leaves(
        &self,
        stale: &[&str],
        plane: &ControlPlane,
        run: &dyn Run,
        making: &Path,
    ) -> anyhow::Result<()> {
        let aside = making.join("pki");
        for name in ["ca", "front-proxy-ca", "etcd/ca"] {
            for end in ["crt", "key"] {
                let name = format!("{name}.{end}");
                let contents =
                    fs::read(self.file(&name)).with_context(|| format!("pki/{name}: can not be read"))?;
                write_atomically(&aside.join(&name), &contents, 0o600)?;
            }
        }
        let config = write_config(plane, &aside, making)?;
        for leaf in stale {
            // kubeadm calls the phase of etcd/server "etcd-server".
            run.run(&kubeadm::phase(&["certs", &leaf.replace('/', "-")], &config))?;
        }
        sync_tree(&aside)?;
        for leaf in stale {
            for end in ["key", "crt"] {
                let name = format!("{leaf}.{end}");
                rename_durably(&aside.join(&name), &self.file(&name))?;
            }
        }
        Ok(())
    }

    fn leaf_is_good(&self, leaf: &str, plane: &ControlPlane, now: SystemTime) -> bool {
        let read = |end: &str| fs::read_to_string(self.file(&format!("{leaf}.{end}"))).ok();
        let (Some(certificate), Some(key)) = (read("crt"), read("key")) else { return false };
        let (Ok(facts), Ok(key)) = (keys::facts(&certificate), keys::Key::from_pem(&key)) else {
            return false;
        };
        let named = |san: &String| match san.parse() {
            Ok(address) => facts.addresses.contains(&address),
            Err(_) => facts.names.contains(san),
        };
        let addressed =
            leaf != "apiserver" || (facts.addresses.contains(&plane.address) && plane.sans.iter().all(named));
        let paired = key.public_der().is_ok_and(|der| der == facts.public_der);
        addressed && paired && facts.not_after > now + RENEW_BEFORE
    }

    fn kubeconfig_is_good(&self, name: &str, plane: &ControlPlane, now: SystemTime) -> bool {
        let Some((certificate, server)) = kubeconfig::certificate_and_server(&self.kubeconfig(name)) else {
            return false;
        };
        let lasting = keys::facts(&certificate).is_ok_and(|facts| facts.not_after > now + RENEW_BEFORE);
        server == plane.server() && lasting
    }
}

fn write_config(plane: &ControlPlane, certificates: &Path, making: &Path) -> anyhow::Result<PathBuf> {
    let path = making.join("kubeadm.json");
    write_atomically(&path, kubeadm::config(plane, certificates, None).as_bytes(), 0o600)?;
    Ok(path)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::keys::Authority;
    use sheaf_host::fakes::FakeRun;

    /// What kubeadm gives a certificate.
    pub const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    pub fn plane() -> ControlPlane {
        ControlPlane {
            node: "n1".into(),
            address: [192, 0, 2, 10].into(),
            sans: Vec::new(),
            service_cidr: "10.96.0.0/16".into(),
            version: "v1.37.2".into(),
        }
    }

    /// An empty folder for keys.
    pub fn temporary(name: &str) -> Pki {
        let dir = std::env::temp_dir().join(format!("sheaf-pki-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Pki { dir }
    }

    /// Makes certificates of a year where its config file says.
    pub fn fake_kubeadm() -> FakeRun {
        FakeRun::default().does("kubeadm init phase", |text| {
            let words: Vec<_> = text.split(' ').collect();
            let after = |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
            let config = fs::read_to_string(after("--config").unwrap()).unwrap();
            let cluster: serde_json::Value = serde_json::from_str(config.lines().nth(2).unwrap()).unwrap();
            let dir = PathBuf::from(cluster["certificatesDir"].as_str().unwrap());
            let write =
                |name: &str, text: &str| write_atomically(&dir.join(name), text.as_bytes(), 0o600).unwrap();
            match (words[3], words[4]) {
                ("certs", "all") => {
                    for ca in ["ca", "front-proxy-ca", "etcd/ca"] {
                        let (_authority, certificate, key) = Authority::of_tests();
                        write(&format!("{ca}.crt"), &certificate);
                        write(&format!("{ca}.key"), &key);
                    }
                    LEAVES.iter().for_each(|leaf| issue(&dir, leaf));
                }
                ("certs", phase) => {
                    let leaf = LEAVES.iter().find(|leaf| leaf.replace('/', "-") == phase).unwrap();
                    issue(&dir, leaf);
                }
                (_, name) => {
                    let (certificate, key) = leaf(&dir);
                    let ca = fs::read_to_string(dir.join("ca.crt")).unwrap();
                    let text = kubeconfig::render(&plane().server(), &ca, name, &certificate, &key);
                    fs::write(
                        Path::new(after("--kubeconfig-dir").unwrap()).join(format!("{name}.conf")),
                        text,
                    )
                    .unwrap();
                }
            }
        })
    }

    fn leaf(dir: &Path) -> (String, String) {
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        let authority = Authority::from_pem(&read("ca.crt"), &read("ca.key")).unwrap();
        authority.leaf_of_tests(&[plane().address], YEAR)
    }

    fn issue(dir: &Path, name: &str) {
        let (certificate, key) = leaf(dir);
        write_atomically(&dir.join(format!("{name}.crt")), certificate.as_bytes(), 0o600).unwrap();
        write_atomically(&dir.join(format!("{name}.key")), key.as_bytes(), 0o600).unwrap();
    }

    fn made(run: &FakeRun) -> Vec<String> {
        let phase = |text: String| Some(text.split(' ').skip(3).take(2).collect::<Vec<_>>().join(" "));
        run.asked().into_iter().filter_map(phase).collect()
    }

    #[test]
    fn what_is_good_is_left_alone_and_what_has_a_third_of_its_year_left_is_made_anew() {
        let pki = temporary("third");
        let now = SystemTime::now();
        let first = fake_kubeadm();
        assert!(pki.ensure(&plane(), &first, now).unwrap());
        assert_eq!(made(&first)[0], "certs all");
        let later = fake_kubeadm();
        assert!(!pki.ensure(&plane(), &later, now + YEAR / 2).unwrap());
        assert_eq!(later.asked(), [""; 0]);
        let old = fake_kubeadm();
        assert!(pki.ensure(&plane(), &old, now + YEAR * 3 / 4).unwrap());
        let expected = LEAVES.map(|leaf| format!("certs {}", leaf.replace('/', "-"))).into_iter();
        let expected: Vec<_> = expected.chain(KUBECONFIGS.map(|name| format!("kubeconfig {name}"))).collect();
        assert_eq!(made(&old), expected);
        fs::remove_dir_all(&pki.dir).unwrap();
    }

    #[test]
    fn a_name_that_the_operator_adds_later_comes_into_the_api_servers_certificate() {
        let pki = temporary("san");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        let run = fake_kubeadm();
        pki.ensure(&ControlPlane { sans: vec!["api.example".into()], ..plane() }, &run, now).unwrap();
        assert_eq!(made(&run), ["certs apiserver"]);
        fs::remove_dir_all(&pki.dir).unwrap();
    }
}
