//! Who is an administrator, and what follows. Pure.
//!
//! Route in: keys of node.toml, the record, what is published and bound. Route out: [`Planned`].

use super::GROUP;
use crate::cluster::keys::{self, Authority, Subject};
use anyhow::Context as _;
use sheaf_config::pin::CaPin;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Validity of a certificate: what a stolen key that nobody misses is worth at most.
pub const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Made again with less than this left: a third.
const RENEW_BEFORE: Duration = Duration::from_secs(10 * 24 * 3600);

/// What the record has as the value of a user name that was revoked.
pub const REVOKED: &str = "revoked";
/// Label of their bindings.
pub const LABEL: &str = "sheaf.dev/administrator=true";
/// What the name of a binding begins with.
const BINDING: &str = "sheaf:administrator:";
/// Hexadecimal digits of the key's hash in a user name.
const DIGITS: usize = 16;

/// The cluster's CA among the certificates that are published.
const CA_ENTRY: &str = "ca.crt";

/// The API server by the address for people, among the certificates that are published, if there is one such address.
const SERVER_ENTRY: &str = "server";

/// Where a key is from, for keys of node.toml of the node that made the cluster.
pub const NODE_TOML: &str = "node.toml";

/// The user of the binding `name`.
pub fn user_of(name: &str) -> Option<&str> {
    name.strip_prefix(BINDING)
}

/// The binding of `user`.
pub fn binding_of(user: &str) -> String {
    format!("{BINDING}{user}")
}

/// The owner of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    /// `sheaf-admin-` and 16 hexadecimal digits of the key's hash.
    pub user: String,
    /// SHA-256 of the public key, hexadecimal.
    pub hash: String,
    /// `node.toml`, or the name in the record.
    pub origin: String,
    /// The rights were ended.
    pub revoked: bool,
    public_der: Vec<u8>,
}

impl Administrator {
    fn new(pem: &str, origin: &str, record: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        Ok(Self::of(keys::public_key_der(pem)?, origin, record))
    }

    fn of(public_der: Vec<u8>, origin: &str, record: &BTreeMap<String, String>) -> Self {
        let hash = CaPin::of_public_key(&public_der).hex();
        let user = format!("sheaf-admin-{}", &hash[..DIGITS]);
        let revoked = record.get(&user).is_some_and(|word| word.trim() == REVOKED);
        Self { user, hash, origin: origin.to_owned(), revoked, public_der }
    }

    /// The name of the certificate among those that are published.
    pub fn entry(&self) -> String {
        format!("{}.crt", self.hash)
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The record.
    pub record: BTreeMap<String, String>,
    /// The certificates that are published, once they were.
    pub published: Option<BTreeMap<String, String>>,
    /// Users that have a binding.
    pub bound: BTreeSet<String>,
    /// `https://ADDRESS:6443` of the address for people.
    pub server: Option<String>,
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Give a user the rights.
    Bind(String),
    /// End them.
    Unbind(String),
    /// Publish these certificates, and no others.
    Publish(BTreeMap<String, String>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(user) => write!(f, "{user} becomes an administrator"),
            Self::Unbind(user) => write!(f, "{user} is no administrator any more"),
            Self::Publish(data) => {
                let certificates =
                    data.keys().filter(|name| ![CA_ENTRY, SERVER_ENTRY].contains(&name.as_str()));
                write!(f, "publish {} certificates", certificates.count())
            }
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// In order: rights end before anything else can fail.
    pub actions: Vec<Action>,
    /// Entries of the record that say nothing.
    pub problems: Vec<String>,
}

/// Everybody with a key, those that were revoked too; and entries of the record that are no key. A key of node.toml that is
/// none is an error. On a node without keys of its own (`configured` is none) those that have a certificate keep it.
pub fn administrators(
    configured: Option<&[String]>,
    observed: &Observed,
) -> anyhow::Result<(Vec<Administrator>, Vec<String>)> {
    let record = &observed.record;
    let mut all: Vec<Administrator> = Vec::new();
    let mut problems = Vec::new();
    for (index, pem) in configured.into_iter().flatten().enumerate() {
        let one = Administrator::new(pem, NODE_TOML, record);
        all.push(one.with_context(|| format!("cluster.admin-keys[{index}]"))?);
    }
    for (name, value) in record {
        if value.trim() == REVOKED {
            continue;
        }
        match Administrator::new(value, name, record) {
            Ok(one) if all.iter().any(|known| known.user == one.user) => {}
            Ok(one) => all.push(one),
            Err(error) => {
                problems.push(format!("{name} is neither a public key in PEM nor \"{REVOKED}\": {error:#}"));
            }
        }
    }
    if configured.is_none() {
        for facts in observed.published.iter().flatten().filter(|(name, _)| *name != CA_ENTRY) {
            let Ok(facts) = keys::facts(facts.1) else { continue };
            let one = Administrator::of(facts.public_der, NODE_TOML, record);
            if all.iter().all(|known| known.user != one.user) {
                all.push(one);
            }
        }
    }
    Ok((all, problems))
}

/// What is to be done at `now`.
pub fn plan(
    observed: &Observed,
    ca: &str,
    ca_key: &str,
    configured: Option<&[String]>,
    now: SystemTime,
) -> anyhow::Result<Planned> {
    let (all, problems) = administrators(configured, observed)?;
    let wanted: Vec<&Administrator> = all.iter().filter(|one| !one.revoked).collect();
    let is_wanted = |user: &String| wanted.iter().any(|one| one.user == *user);
    let unbind = observed.bound.iter().filter(|user| !is_wanted(user)).cloned().map(Action::Unbind);
    let bind = wanted.iter().map(|one| &one.user).filter(|user| !observed.bound.contains(*user));
    let mut actions: Vec<Action> = unbind.collect();
    actions.extend(bind.cloned().map(Action::Bind));
    let empty = BTreeMap::new();
    let mut data = contents(observed.published.as_ref().unwrap_or(&empty), ca, ca_key, &wanted, now)?;
    data.extend(observed.server.iter().map(|server| (SERVER_ENTRY.to_owned(), server.clone())));
    if observed.published.as_ref() != Some(&data) {
        actions.push(Action::Publish(data));
    }
    Ok(Planned { actions, problems })
}

/// The CA, and a certificate for each of `wanted`, kept while it lasts.
fn contents(
    before: &BTreeMap<String, String>,
    ca: &str,
    ca_key: &str,
    wanted: &[&Administrator],
    now: SystemTime,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut data = BTreeMap::from([(CA_ENTRY.to_owned(), ca.to_owned())]);
    let same_ca = before.get(CA_ENTRY).is_some_and(|before| before == ca);
    let authority = Authority::from_pem(ca, ca_key)?;
    for one in wanted {
        let subject = Subject { common_name: one.user.clone(), organisations: vec![GROUP.into()] };
        let lasting = before.get(&one.entry()).filter(|pem| {
            // Those of an earlier version were of another group, for a year.
            let of_group = |subject: &str| subject.split(',').any(|part| part == format!("O={GROUP}"));
            same_ca
                && keys::facts(pem).is_ok_and(|facts| {
                    facts.public_der == one.public_der
                        && of_group(&facts.subject)
                        && facts.not_before <= now
                        && facts.not_after > now + RENEW_BEFORE
                        && facts.not_after <= now + VALIDITY
                })
        });
        let certificate = match lasting {
            Some(certificate) => certificate.clone(),
            None => authority.issue_client(&subject, &one.public_der, VALIDITY, now)?,
        };
        data.insert(one.entry(), certificate);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keys::Key;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn key() -> String {
        Key::generate().unwrap().public_pem().unwrap()
    }

    fn user(pem: &str) -> String {
        Administrator::new(pem, NODE_TOML, &BTreeMap::new()).unwrap().user
    }

    /// What there is once `planned` was done.
    fn after(observed: &Observed, planned: &Planned) -> Observed {
        let mut observed = observed.clone();
        for action in &planned.actions {
            match action {
                Action::Bind(user) => drop(observed.bound.insert(user.clone())),
                Action::Unbind(user) => drop(observed.bound.remove(user)),
                Action::Publish(data) => observed.published = Some(data.clone()),
            }
        }
        observed
    }

    struct Cluster {
        ca: String,
        ca_key: String,
        configured: Vec<String>,
        observed: Observed,
    }

    impl Cluster {
        fn new(configured: &[String]) -> Self {
            let (ca, ca_key) = Authority::create("kubernetes", SystemTime::now()).unwrap();
            Self { ca, ca_key, configured: configured.into(), observed: Observed::default() }
        }

        fn plan(&self, now: SystemTime) -> Planned {
            plan(&self.observed, &self.ca, &self.ca_key, Some(&self.configured), now).unwrap()
        }

        /// Does what follows at `now`, and shows it.
        fn keep(&mut self, now: SystemTime) -> Vec<String> {
            let planned = self.plan(now);
            self.observed = after(&self.observed, &planned);
            let again = self.plan(now);
            assert_eq!(again.actions, [], "a second time nothing is left to do");
            planned.actions.iter().map(ToString::to_string).collect()
        }

        fn certificate(&self, pem: &str) -> Option<keys::Facts> {
            let entry = Administrator::new(pem, NODE_TOML, &BTreeMap::new()).unwrap().entry();
            Some(keys::facts(self.observed.published.as_ref()?.get(&entry)?).unwrap())
        }
    }

    #[test]
    fn an_administrator_has_a_certificate_of_thirty_days_without_rights_and_a_binding_with_them() {
        let (alice, now) = (key(), SystemTime::now());
        let mut cluster = Cluster::new(std::slice::from_ref(&alice));
        let user = user(&alice);
        assert_eq!(
            cluster.keep(now),
            [format!("{user} becomes an administrator"), "publish 1 certificates".into()]
        );
        let facts = cluster.certificate(&alice).unwrap();
        assert_eq!(facts.subject, format!("CN={user},O=sheaf:administrators"));
        assert!(facts.not_after <= now + VALIDITY);
        assert_eq!(cluster.observed.bound, [user].into());
    }

    #[test]
    fn a_certificate_is_renewed_for_the_same_key_when_a_third_of_its_life_is_left() {
        let (alice, now) = (key(), SystemTime::now());
        let mut cluster = Cluster::new(std::slice::from_ref(&alice));
        cluster.keep(now);
        let first = cluster.certificate(&alice).unwrap();
        assert_eq!(cluster.keep(now + DAY * 19), [""; 0]);
        assert_eq!(cluster.keep(now + DAY * 21), ["publish 1 certificates"]);
        let second = cluster.certificate(&alice).unwrap();
        assert!(second.not_after > first.not_after && second.public_der == first.public_der);
        assert_eq!(cluster.keep(now + DAY * 3000), ["publish 1 certificates"], "the node was off for years");
    }

    #[test]
    fn one_that_is_revoked_loses_binding_and_certificate_though_node_toml_still_has_the_key() {
        let (alice, bob, now) = (key(), key(), SystemTime::now());
        let mut cluster = Cluster::new(std::slice::from_ref(&alice));
        cluster.observed.record = [("bob".to_owned(), bob.clone())].into();
        cluster.keep(now);
        assert_eq!(cluster.observed.bound.len(), 2);
        cluster.observed.record.insert(user(&alice), format!("{REVOKED}\n"));
        assert_eq!(
            cluster.keep(now),
            [format!("{} is no administrator any more", user(&alice)), "publish 1 certificates".into()]
        );
        assert_eq!(cluster.observed.bound, [user(&bob)].into());
        assert_eq!(cluster.certificate(&alice), None);
        // Under another name in the record, it is the same key.
        cluster.observed.record.insert("mallory".into(), alice.clone());
        assert_eq!(cluster.keep(now), [""; 0]);
        cluster.observed.record.remove(&user(&alice));
        assert_eq!(cluster.keep(now).len(), 2, "it is allowed again");
    }

    #[test]
    fn who_is_in_neither_list_any_more_loses_the_binding() {
        let (alice, now) = (key(), SystemTime::now());
        let mut cluster = Cluster::new(std::slice::from_ref(&alice));
        cluster.keep(now);
        cluster.configured.clear();
        assert_eq!(
            cluster.keep(now),
            [format!("{} is no administrator any more", user(&alice)), "publish 0 certificates".into()]
        );
    }

    #[test]
    fn a_node_without_keys_of_its_own_renews_what_was_published_but_for_who_was_revoked() {
        let (alice, bob, now) = (key(), key(), SystemTime::now());
        let mut cluster = Cluster::new(&[alice.clone(), bob.clone()]);
        cluster.keep(now);
        cluster.observed.record.insert(user(&bob), REVOKED.into());
        let later = now + DAY * 25;
        let planned = plan(&cluster.observed, &cluster.ca, &cluster.ca_key, None, later).unwrap();
        cluster.observed = after(&cluster.observed, &planned);
        assert_eq!(cluster.observed.bound, [user(&alice)].into());
        assert!(cluster.certificate(&alice).unwrap().not_after > later + DAY * 29);
        assert_eq!(cluster.certificate(&bob), None);
    }

    #[test]
    fn certificates_of_masters_from_an_earlier_version_are_replaced() {
        let (alice, now) = (key(), SystemTime::now());
        let mut cluster = Cluster::new(std::slice::from_ref(&alice));
        cluster.keep(now);
        let one = Administrator::new(&alice, NODE_TOML, &BTreeMap::new()).unwrap();
        let masters = Subject { common_name: one.user.clone(), organisations: vec!["system:masters".into()] };
        let authority = Authority::from_pem(&cluster.ca, &cluster.ca_key).unwrap();
        let old = authority.issue_client(&masters, &one.public_der, VALIDITY * 12, now).unwrap();
        cluster.observed.published.as_mut().unwrap().insert(one.entry(), old);
        assert_eq!(cluster.keep(now), ["publish 1 certificates"]);
        assert!(cluster.certificate(&alice).unwrap().subject.ends_with("O=sheaf:administrators"));
    }

    #[test]
    fn an_entry_of_the_record_that_is_no_key_is_named_and_holds_up_nobody() {
        let (alice, now) = (key(), SystemTime::now());
        let record = [("bob".to_owned(), "x".to_owned())].into();
        let observed = Observed { record, ..Observed::default() };
        let cluster = Cluster::new(&[alice]);
        let planned = plan(&observed, &cluster.ca, &cluster.ca_key, Some(&cluster.configured), now).unwrap();
        assert_eq!(planned.actions.len(), 2);
        assert_eq!(
            planned.problems,
            ["bob is neither a public key in PEM nor \"revoked\": there is no PUBLIC KEY block"]
        );
        let wrong = plan(&observed, &cluster.ca, &cluster.ca_key, Some(&["x".into()]), now).unwrap_err();
        assert_eq!(format!("{wrong:#}"), "cluster.admin-keys[0]: there is no PUBLIC KEY block");
    }
}
