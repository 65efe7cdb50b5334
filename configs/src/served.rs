//! A certificate that the operator gave for browsers: whether its key belongs to it, until when it is valid, for which names.
//!
//! Why here: `sheaf config check` warns at the desk of what the agent would find at the node. What depends on the clock is no
//! mistake of the file: a node must start with a certificate that has expired meanwhile. Route in: PEM. Route out: yes or no, facts,
//! warnings.

use crate::diagnose::Problem;
use crate::node::NodeConfig;
use crate::time::rfc3339;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use std::net::IpAddr;
use x509_cert::Certificate;
use x509_cert::der::Encode as _;
use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};

/// Whether the key in PEM is one that the console can serve with, and that of the first certificate in `chain`: by the library that
/// will serve it.
pub fn belongs(key: &str, chain: &str) -> bool {
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).ok().and_then(|key| any_supported_type(&key).ok());
    let public = key.and_then(|key| key.public_key().map(|public| public.as_ref().to_vec()));
    let certificate = first(chain);
    let own = certificate.and_then(|one| one.tbs_certificate().subject_public_key_info().to_der().ok());
    public.is_some() && public == own
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Names for which it is, `*.example.org` among them.
    pub names: Vec<String>,
    /// Addresses for which it is.
    pub addresses: Vec<IpAddr>,
    /// Seconds since 1970: from when it is valid.
    pub begins: u64,
    /// Seconds since 1970: until when.
    pub ends: u64,
}

/// The facts of the first certificate of `chain`; none if it is damaged.
pub fn facts(chain: &str) -> Option<Facts> {
    let certificate = first(chain)?;
    let (names, addresses) = alternatives(&certificate);
    let names = names.into_iter().map(|name| name.to_lowercase()).collect();
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    Some(Facts { names, addresses, begins: seconds(validity.not_before), ends: seconds(validity.not_after) })
}

/// DNS names and addresses among the alternative names of a certificate.
pub fn alternatives(certificate: &Certificate) -> (Vec<String>, Vec<IpAddr>) {
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok().flatten();
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for alternative in found.map(|(_, names)| names.0).unwrap_or_default() {
        match alternative {
            GeneralName::DnsName(name) => names.push(name.to_string()),
            GeneralName::IpAddress(bytes) => addresses.extend(address(bytes.as_bytes())),
            _ => {}
        }
    }
    (names, addresses)
}

fn first(chain: &str) -> Option<Certificate> {
    Certificate::load_pem_chain(chain.trim().as_bytes()).ok()?.into_iter().next()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

impl Facts {
    /// Whether it is valid at `now`, in seconds since 1970.
    pub fn is_valid(&self, now: u64) -> bool {
        (self.begins..self.ends).contains(&now)
    }

    /// Whether a browser takes it for `name` (RFC 9525: `*` is one whole first label).
    pub fn covers(&self, name: &str) -> bool {
        if let Ok(address) = name.parse() {
            return self.addresses.contains(&address);
        }
        let name = name.to_lowercase();
        let wild = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.names.iter().any(|one| *one == name || Some(one) == wild.as_ref())
    }
}

/// What is to be known of `[console]` of a config that is accepted, at `now` in seconds since 1970.
pub fn warnings(config: &NodeConfig, now: u64) -> Vec<Problem> {
    let Some(console) = &config.console else { return Vec::new() };
    let Some(facts) = facts(&console.certificate) else { return Vec::new() };
    let mut warnings = Vec::new();
    let mut warn = |what: String, remedy: &str| {
        warnings.push(Problem {
            line: None,
            path: "console.certificate".into(),
            what,
            remedy: remedy.into(),
        });
    };
    if now >= facts.ends {
        warn(format!("expired at {}, so it is not used", rfc3339(facts.ends)), "give one that is valid");
    } else if now < facts.begins {
        warn(
            format!("is valid only from {}, so it is not used until then", rfc3339(facts.begins)),
            "check the clock",
        );
    }
    let cluster = config.cluster.as_ref();
    let mut reached = vec![config.system.hostname.clone()];
    reached.extend(
        cluster
            .into_iter()
            .flat_map(|cluster| cluster.sans.iter().cloned().chain(cluster.vip.map(|vip| vip.to_string()))),
    );
    if !reached.iter().any(|name| facts.covers(name)) {
        warn(
            format!("is not for any name of this node: {}", reached.join(", ")),
            "browsers take it only for a name that is in it; add that name to cluster.sans if it leads here",
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::parse_node_config;

    const CERTIFICATE: &str = include_str!("../tests/console.crt");
    const KEY: &str = include_str!("../tests/console.key");

    fn config(hostname: &str, cluster: &str) -> NodeConfig {
        let text = format!(
            "version = 1\n[system]\nhostname = \"{hostname}\"\n{cluster}\n[console]\ncertificate = '''\n{CERTIFICATE}'''\n\
             key = '''\n{KEY}'''\n"
        );
        parse_node_config("node.toml", &text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn said(config: &NodeConfig, now: u64) -> Vec<String> {
        warnings(config, now)
            .into_iter()
            .map(|one| format!("{}: {}; {}", one.path, one.what, one.remedy))
            .collect()
    }

    #[test]
    fn a_certificate_is_for_its_names_and_its_time_and_else_there_is_a_warning() {
        let facts = facts(CERTIFICATE).unwrap();
        assert_eq!(
            (facts.names.as_slice(), facts.addresses.len()),
            (&["console.example.org".to_owned(), "*.lab.example.org".into()][..], 1)
        );
        let within = facts.begins + 1;
        let named = "[cluster]\nmode = \"create\"\nsans = [\"console.example.org\"]";
        assert_eq!(said(&config("a", named), within), Vec::<String>::new());
        assert_eq!(
            said(&config("a", "[cluster]\nmode = \"create\"\nvip = \"192.0.2.100\""), within),
            Vec::<String>::new()
        );
        assert_eq!(
            said(&config("a", ""), within),
            [
                "console.certificate: is not for any name of this node: a; browsers take it only for a name that is in it; add \
              that name to cluster.sans if it leads here"
            ]
        );
        assert_eq!(
            said(&config("a", named), facts.ends),
            [format!(
                "console.certificate: expired at {}, so it is not used; give one that is valid",
                rfc3339(facts.ends)
            )]
        );
        assert_eq!(
            said(&config("a", named), facts.begins - 1),
            [format!(
                "console.certificate: is valid only from {}, so it is not used until then; check the clock",
                rfc3339(facts.begins)
            )]
        );
    }

    #[test]
    fn a_star_is_one_label_and_an_address_is_compared_as_one() {
        let facts = facts(CERTIFICATE).unwrap();
        for (name, covered) in [
            ("Console.example.org", true),
            ("n1.lab.example.org", true),
            ("a.n1.lab.example.org", false),
            ("lab.example.org", false),
            ("192.0.2.100", true),
            ("192.0.2.101", false),
        ] {
            assert_eq!(facts.covers(name), covered, "{name}");
        }
    }

    #[test]
    fn a_key_is_never_shown_and_survives_being_written() {
        let config = config("a", "");
        let line = KEY.lines().nth(1).unwrap();
        assert!(!format!("{config:?} {}", config.to_masked_toml().unwrap()).contains(line));
        assert_eq!(parse_node_config("node.toml", &config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn a_key_in_any_of_the_usual_forms_belongs_and_another_does_not() {
        assert!(belongs(KEY, CERTIFICATE));
        assert!(belongs(include_str!("../tests/console-rsa.key"), include_str!("../tests/console-rsa.crt")));
        assert!(!belongs(KEY, include_str!("../tests/console-rsa.crt")));
        assert!(!belongs("nothing", CERTIFICATE) && !belongs(KEY, "nothing"));
    }
}
