//! Twelve years of a control-plane node by a clock that is moved: every renewal that is due happens, and none is late.
//!
//! Why here: a year of waiting shows nothing that a clock does not. The pure parts and those that only write files are the agent's
//! own; kubeadm is a fake that signs for a year, as the real one does. Past the tenth year, since the CAs are made for ten.

use super::judge::judge;
use super::list::{Contents, Part, list};
use crate::administrators::plan::{self as administrators, Action, Observed};
use crate::authorities::certificates::Certificates;
use crate::authorities::fetch::later;
use crate::cluster::create::console;
use crate::cluster::create::controller::{ensure_kubeconfig, ensure_serving};
use crate::cluster::create::pki::tests::{YEAR, fake_kubeadm_at, plane};
use crate::cluster::create::pki::{AUTHORITIES, Pki};
use crate::cluster::create::shared::Pair;
use crate::cluster::identity::{CLIENT, SERVING, Store};
use crate::cluster::keys::{self, Authority, Key, Subject};
use crate::paths::Paths;
use crate::service_accounts::keys::KeySet;
use crate::service_accounts::plan as tokens;
use sheaf_config::node::NodeConfig;
use sheaf_config::pin::CaPin;
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Between two looks at what administrators have, whose certificates have a margin of 10 days: far longer than the agent's 6 hours.
const LOOK: Duration = Duration::from_secs(9 * 24 * 3600);
/// All else, with a month of margin at least, is looked at every so many looks.
const WHOLE: u32 = 3;
/// How long it is watched.
const YEARS: u32 = 12;

/// A node with a control plane.
struct Node {
    _root: tempfile::TempDir,
    paths: Paths,
    pki: Pki,
    clock: Arc<Mutex<SystemTime>>,
    /// The certificate of the cluster's consoles, as the API server has it.
    consoles: Mutex<Option<Pair>>,
    access: Observed,
    admin: String,
    tokens: KeySet,
    /// How often what is in each file was made again, and how long the one before it was still valid.
    renewed: BTreeMap<String, Vec<Duration>>,
}

impl Node {
    fn new(start: SystemTime) -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let pki = Pki { dir: paths.kubernetes.clone() };
        let mut tokens = KeySet { keys: Vec::new(), generation: 0 };
        tokens.add(start).unwrap();
        let admin = Key::generate().unwrap().public_pem().unwrap();
        let (clock, access) = (Arc::new(Mutex::new(start)), Observed::default());
        let consoles = Mutex::default();
        Self { _root: root, paths, pki, clock, consoles, access, admin, tokens, renewed: BTreeMap::new() }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.pki.file(name)).unwrap()
    }

    /// What the node's agent does to its own two certificates, signed by the cluster for a year.
    fn keep_own(&self, share: f64, now: SystemTime) {
        let store = Store::of(&self.paths);
        let ca = self.read("ca.crt");
        if store.ca().is_none_or(|held| later(&held, &ca).is_some()) {
            store.save_ca(&ca).unwrap();
        }
        for (name, of) in [(CLIENT, "ca"), (SERVING, "kubelet-serving-ca")] {
            if store.load(name).is_some_and(|identity| now < identity.renew_at(share)) {
                continue;
            }
            let authority =
                Authority::from_pem(&self.read(&format!("{of}.crt")), &self.read(&format!("{of}.key")))
                    .unwrap();
            let key = store.pending(name).unwrap();
            let public = key.public_der().unwrap();
            let issued = authority.issue_client(&Subject::node("n1"), &public, YEAR, now).unwrap();
            store.save(name, &issued, &key).unwrap();
        }
    }

    /// What the agent does at `now` to all that the control plane and the node have.
    fn keep(&self, share: f64, now: SystemTime) {
        *self.clock.lock().unwrap() = now;
        self.pki.ensure(&plane(), &fake_kubeadm_at(self.clock.clone()), now).unwrap();
        let held = Certificates::load(&self.pki).unwrap().unwrap();
        let due = held.due(now);
        if !due.is_empty() {
            held.renewed(&self.pki, &due, now).unwrap().replace(&held, &self.pki).unwrap();
            // The kubeconfigs hold the CA.
            self.pki.ensure(&plane(), &fake_kubeadm_at(self.clock.clone()), now).unwrap();
        }
        let (ca, ca_key) = (self.read("ca.crt"), self.read("ca.key"));
        ensure_kubeconfig(&self.pki, &plane().server(), &ca, &ca_key, now).unwrap();
        ensure_serving(&self.pki, &plane(), now).unwrap();
        let config = NodeConfig::named("n1");
        console::ensure(&self.pki, &plane(), &config, (&ca, &ca_key), now).unwrap();
        let mut consoles = self.consoles.lock().unwrap();
        let good = consoles.take().filter(|pair| pair.is_good(now));
        let pair = good.unwrap_or_else(|| Pair::make(&plane(), now).unwrap());
        console::put_shared(&self.pki, &pair).unwrap();
        *consoles = Some(pair);
        self.keep_own(share, now);
    }

    /// The same to administrators' certificates and to the keys of service accounts.
    fn look(&mut self, now: SystemTime) {
        let (ca, ca_key) = (self.read("ca.crt"), self.read("ca.key"));
        let keys = [self.admin.clone()];
        let planned = administrators::plan(&self.access, &ca, &ca_key, Some(&keys), now).unwrap();
        for action in planned.actions {
            match action {
                Action::Bind(user) => drop(self.access.bound.insert(user)),
                Action::Unbind(user) => panic!("{user} is no administrator any more"),
                Action::Publish(data) => self.access.published = Some(data),
            }
        }
        loop {
            let observed = tokens::Observed {
                set: self.tokens.clone(),
                is_served: true,
                shared: None,
                tokens: Default::default(),
                now,
            };
            match tokens::plan(&observed) {
                None | Some(tokens::Step::Serve | tokens::Step::Follow(_) | tokens::Step::Renew(_)) => break,
                Some(tokens::Step::Sign(number)) => self.tokens.sign_with(number),
                Some(tokens::Step::Retire(numbers)) => self.tokens.retire(&numbers, now),
                Some(tokens::Step::Forget(numbers)) => self.tokens.forget(&numbers),
            }
        }
    }

    /// Certificates by the file they are in, the administrator's among them.
    fn certificates(&self) -> BTreeMap<String, keys::Facts> {
        let listed = list(&self.paths, Part::Created).into_iter().filter_map(|entry| match entry.contents {
            Contents::Certificate(facts) => Some((entry.name, facts)),
            _ => None,
        });
        let mut all: BTreeMap<_, _> = listed.collect();
        for (name, pem) in self.access.published.iter().flatten().filter(|(name, _)| *name != "ca.crt") {
            assert!(name.ends_with(".crt"), "{name}");
            all.insert("administrator".into(), keys::facts(pem).unwrap());
        }
        all
    }
}

#[test]
fn in_twelve_years_every_certificate_is_renewed_in_time_and_ca_hash_stays() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut node = Node::new(start);
    // The latest moment that a node of a fleet chooses.
    let share = 1.0;
    node.keep(share, start);
    node.look(start);
    let pin = CaPin::of_certificate(&node.read("ca.crt")).unwrap();
    let mut before = node.certificates();
    assert_eq!(
        before.len(),
        5 + 7 + 2 + 5 + 3 + 1,
        "CAs, leaves, kubeconfigs, the node's own, an administrator's"
    );
    let (mut now, mut most_keys, mut looks) = (start, 0, 0);
    while now < start + YEAR * YEARS {
        now += LOOK;
        looks += 1;
        // A key of service accounts for each year.
        let year = |at: SystemTime| at.duration_since(start).unwrap().as_secs() / YEAR.as_secs();
        if year(now) > year(now - LOOK) {
            node.tokens.add(now).unwrap();
        }
        // The last moment before the look: nothing may have ended by then.
        for (name, facts) in &before {
            assert!(facts.not_after > now, "{name} ended before it was renewed");
        }
        if looks % WHOLE == 0 {
            node.keep(share, now);
        }
        node.look(now);
        let findings = judge(&list(&node.paths, Part::Created), Part::Created, now);
        assert_eq!(findings, [], "on day {}", now.duration_since(start).unwrap().as_secs() / DAY.as_secs());
        let after = node.certificates();
        for (name, facts) in &after {
            assert!(facts.not_before <= now && facts.not_after > now, "{name} is not valid when it is made");
            if facts != &before[name] {
                let left = before[name].not_after.duration_since(now).unwrap();
                node.renewed.entry(name.clone()).or_default().push(left);
            }
        }
        assert_eq!(CaPin::of_certificate(&node.read("ca.crt")).unwrap(), pin, "ca-hash of node.toml holds");
        most_keys = most_keys.max(node.tokens.keys.len());
        before = after;
    }
    let times = |name: &str| node.renewed.get(name).map(Vec::len).unwrap_or_default();
    for (name, _) in AUTHORITIES {
        assert_eq!(times(&format!("CA {name}")), 1, "once, in the eighth year: {name}");
    }
    assert_eq!(times("the cluster's CA, as this node trusts it"), 1);
    for name in [
        "apiserver",
        "etcd/server",
        "sheaf-controller-serving",
        "kubeconfig scheduler",
        "kubeconfig sheaf-console",
    ] {
        // 365 days, made again with less than 120 left; the CA's renewal makes kubeconfigs once more.
        assert!((16..=18).contains(&times(name)), "{name}: {:?}", node.renewed.get(name));
    }
    for name in ["client certificate of this node", "serving certificate of this node"] {
        assert!((12..=14).contains(&times(name)), "{name}: {:?}", node.renewed.get(name));
    }
    // 30 days, made again with less than 10 left.
    assert!((150..=260).contains(&times("administrator")), "{}", times("administrator"));
    // What is renewed has days left at least; the shortest is an administrator's, of 30.
    let least = node.renewed.values().flatten().min().unwrap();
    assert!(*least >= DAY, "{least:?}");
    // The key that signs, and that of the year before until its last token has ended.
    assert_eq!(node.tokens.keys[0].number, YEARS + 1);
    assert!(most_keys <= 3, "{most_keys} keys at once");
}
