//! Keys, certificates and kubeconfigs of the control plane, whole after a power cut at any point.
//!
//! Why here: kubeadm writes file by file and does not sync. So it writes into a directory of its own, which is
//! synced and then moved into place. The CAs are made here and not by kubeadm, which takes those that it finds: they are
//! backdated by a day (kubeadm's leaves begin when their CA does), and there are two more: for nodes' serving
//! certificates and for the aggregated API server's, each of which the API server trusts for these alone. Route in: a [`ControlPlane`]. Route out:
//! `/var/lib/kubernetes/{pki,*.conf}`, and whether anything changed.

use super::kubeadm::{self, ControlPlane};
use crate::cluster::keys::{self, Authority};
use crate::cluster::kubeconfig;
use anyhow::Context as _;
use sheaf_host::file::{rename_durably, sync_tree, write_atomically};
use sheaf_host::run::Run;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Kubeconfigs the control plane needs, by kubeadm's names.
pub const KUBECONFIGS: [&str; 3] = ["super-admin", "controller-manager", "scheduler"];

/// Leaf certificates that kubeadm makes; it gives them one year.
pub const LEAVES: [&str; 7] = [
    "apiserver",
    "apiserver-kubelet-client",
    "apiserver-etcd-client",
    "front-proxy-client",
    "etcd/server",
    "etcd/peer",
    "etcd/healthcheck-client",
];

/// CAs with their common names: kubeadm's three by kubeadm's names, and those that sign the certificates by which nodes and
/// the aggregated API server answer. Agents and kubectl trust the first alone, so no node can be taken for the API server.
pub const AUTHORITIES: [(&str, &str); 5] = [
    ("ca", "kubernetes"),
    ("front-proxy-ca", "front-proxy-ca"),
    ("etcd/ca", "etcd-ca"),
    ("kubelet-serving-ca", "kubelet-serving-ca"),
    ("aggregated-ca", "aggregated-ca"),
];

/// Those that are not kubeadm's: one that is missing is made.
const OWN_AUTHORITIES: [&str; 2] = ["kubelet-serving-ca", "aggregated-ca"];

/// A certificate with less than this left is made again: a third of kubeadm's year.
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
                .with_context(|| format!("{}: cannot be removed", making.display()))?;
        }
        let mut changed = false;
        if !self.file("ca.crt").exists() {
            for (name, common_name) in AUTHORITIES {
                make_authority(&making.join("pki"), name, common_name, now)?;
            }
            let config = write_config(plane, &making.join("pki"), &making)?;
            run.run(&kubeadm::phase(&["certs", "all"], &config))?;
            sync_tree(&making)?;
            rename_durably(&making.join("pki"), &self.dir.join("pki"))?;
            changed = true;
        }
        changed |= self.ensure_authorities(&making, now)?;
        let stale: Vec<_> = LEAVES.into_iter().filter(|leaf| !self.leaf_is_good(leaf, plane, now)).collect();
        if !stale.is_empty() {
            tracing::info!(?stale, "certificates of the control plane are created again");
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
                .with_context(|| format!("{}: cannot be removed", making.display()))?;
        }
        Ok(changed)
    }

    /// Makes CAs again, same name and key, that begin in the future: the clock was ahead when they were made. One that is
    /// missing is made.
    fn ensure_authorities(&self, making: &Path, now: SystemTime) -> anyhow::Result<bool> {
        let mut changed = false;
        for (name, common_name) in AUTHORITIES {
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            if !self.file(&certificate).exists() && OWN_AUTHORITIES.contains(&name) {
                make_authority(&making.join("pki"), name, common_name, now)?;
                rename_durably(&making.join("pki").join(&key), &self.file(&key))?;
                rename_durably(&making.join("pki").join(&certificate), &self.file(&certificate))?;
                changed = true;
                continue;
            }
            let read = |name: &str| {
                fs::read_to_string(self.file(name)).with_context(|| format!("pki/{name}: cannot be read"))
            };
            let pem = read(&certificate)?;
            let begins = keys::facts(&pem).with_context(|| format!("pki/{certificate}"))?.not_before;
            if begins > now {
                tracing::warn!(
                    "pki/{certificate} begins at {}, which is in the future: the clock was ahead when it was made; \
                     it is created again with the same key",
                    crate::cluster::time::rfc3339(begins)
                );
                let again = Authority::from_pem(&pem, &read(&key)?)?.reissue(now)?;
                write_atomically(&self.file(&certificate), again.as_bytes(), 0o644)?;
                changed = true;
            }
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
                    fs::read(self.file(&name)).with_context(|| format!("pki/{name}: cannot be read"))?;
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
        let Some(facts) = keys::whole(&certificate, &key, now, RENEW_BEFORE) else { return false };
        let named = |san: &String| match san.parse() {
            Ok(address) => facts.addresses.contains(&address),
            Err(_) => facts.names.contains(san),
        };
        match leaf {
            "apiserver" => facts.addresses.contains(&plane.address) && plane.sans.iter().all(named),
            // Members of etcd verify each other by address.
            "etcd/server" | "etcd/peer" => facts.addresses.contains(&plane.address),
            _ => true,
        }
    }

    /// Whether the kubeconfig `name` holds the CA as it is now: one that was made again must be in it too.
    fn trusts_current_ca(&self, name: &str) -> bool {
        let ca = fs::read_to_string(self.file("ca.crt")).unwrap_or_default();
        kubeconfig::authority(&self.kubeconfig(name)).is_some_and(|held| held.trim() == ca.trim())
    }

    fn kubeconfig_is_good(&self, name: &str, plane: &ControlPlane, now: SystemTime) -> bool {
        let Some((certificate, server)) = kubeconfig::certificate_and_server(&self.kubeconfig(name)) else {
            return false;
        };
        let lasting = keys::facts(&certificate)
            .is_ok_and(|facts| facts.not_before <= now && facts.not_after > now + RENEW_BEFORE);
        server == plane.server() && lasting && self.trusts_current_ca(name)
    }
}

/// Makes the CA `name` in `dir`.
fn make_authority(dir: &Path, name: &str, common_name: &str, now: SystemTime) -> anyhow::Result<()> {
    let (certificate, key) = Authority::create(common_name, now)?;
    write_atomically(&dir.join(format!("{name}.key")), key.as_bytes(), 0o600)?;
    write_atomically(&dir.join(format!("{name}.crt")), certificate.as_bytes(), 0o644)?;
    Ok(())
}

fn write_config(plane: &ControlPlane, certificates: &Path, making: &Path) -> anyhow::Result<PathBuf> {
    let path = making.join("kubeadm.json");
    write_atomically(&path, kubeadm::config(plane, certificates, None).as_bytes(), 0o600)?;
    Ok(path)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sheaf_host::fakes::FakeRun;
    use std::sync::{Arc, Mutex};

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
        fake_kubeadm_by(SystemTime::now)
    }

    /// The same, by a clock that is moved.
    pub fn fake_kubeadm_at(clock: Arc<Mutex<SystemTime>>) -> FakeRun {
        fake_kubeadm_by(move || *clock.lock().unwrap())
    }

    fn fake_kubeadm_by(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> FakeRun {
        FakeRun::default().does("kubeadm init phase", move |text| {
            let now = clock();
            let words: Vec<_> = text.split(' ').collect();
            let after = |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
            let config = fs::read_to_string(after("--config").unwrap()).unwrap();
            let cluster: serde_json::Value = serde_json::from_str(config.lines().nth(2).unwrap()).unwrap();
            let dir = PathBuf::from(cluster["certificatesDir"].as_str().unwrap());
            match (words[3], words[4]) {
                ("certs", "all") => LEAVES.iter().for_each(|leaf| issue(&dir, leaf, now)),
                ("certs", phase) => {
                    let leaf = LEAVES.iter().find(|leaf| leaf.replace('/', "-") == phase).unwrap();
                    issue(&dir, leaf, now);
                }
                (_, name) => {
                    let (certificate, key) = leaf(&dir, now);
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

    fn leaf(dir: &Path, now: SystemTime) -> (String, String) {
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        let authority = Authority::from_pem(&read("ca.crt"), &read("ca.key")).unwrap();
        authority.leaf_of_tests_at(&[plane().address], YEAR, now)
    }

    fn issue(dir: &Path, name: &str, now: SystemTime) {
        let (certificate, key) = leaf(dir, now);
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

    #[test]
    fn keys_made_while_the_clock_was_ahead_are_made_anew_when_it_stepped_back_and_the_pin_stays() {
        let pki = temporary("clock");
        let now = SystemTime::now();
        // Made by a clock two years ahead; the fake's leaves begin a day before the true time, as after a remake.
        assert!(pki.ensure(&plane(), &fake_kubeadm(), now + 2 * YEAR).unwrap());
        let begins =
            |name: &str| keys::facts(&fs::read_to_string(pki.file(name)).unwrap()).unwrap().not_before;
        let pin = || {
            sheaf_config::pin::CaPin::of_certificate(&fs::read_to_string(pki.file("ca.crt")).unwrap())
                .unwrap()
        };
        let before = pin();
        assert!(begins("ca.crt") > now);
        let run = fake_kubeadm();
        assert!(pki.ensure(&plane(), &run, now).unwrap());
        for (name, _) in AUTHORITIES {
            assert!(
                begins(&format!("{name}.crt")) <= now - keys::BACKDATE + Duration::from_secs(60),
                "{name}"
            );
        }
        assert_eq!(pin(), before);
        let kubeconfigs: Vec<_> = KUBECONFIGS.iter().map(|name| format!("kubeconfig {name}")).collect();
        assert!(kubeconfigs.iter().all(|one| made(&run).contains(one)), "{:?}", made(&run));
        assert!(!pki.ensure(&plane(), &fake_kubeadm(), now).unwrap(), "a second time nothing is left to do");
        fs::remove_dir_all(&pki.dir).unwrap();
    }

    #[test]
    fn a_leaf_that_begins_in_the_future_is_made_anew() {
        let pki = temporary("future");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        let run = fake_kubeadm();
        // The clock stepped back by two days: CAs and leaves begin tomorrow.
        assert!(pki.ensure(&plane(), &run, now - 2 * keys::BACKDATE).unwrap());
        let expected: Vec<_> = LEAVES.map(|leaf| format!("certs {}", leaf.replace('/', "-"))).into();
        assert_eq!(made(&run)[..LEAVES.len()], expected);
        fs::remove_dir_all(&pki.dir).unwrap();
    }
}
