//! `[system]`: name, access and settings of the host.
//!
//! Route in: `load`. Route out: files and settings that the agent renders at each boot.

use super::{Identity, Secret};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Name, access and settings of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct System {
    /// Name of the host and of the Kubernetes Node: lowercase letters, digits, hyphens, at most 63, no domain. In a file for
    /// several machines `{serial}`, `{uuid}` and `{mac}` stand for what the machine says; `{mac:6}` for its last six.
    #[schemars(example = &"node-1", example = &"node-{serial}", example = &"node-{mac:6}")]
    pub hostname: String,
    /// Public SSH keys of root, for images that hold an SSH server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub ssh_keys: Vec<String>,
    /// Password of root on the console, hashed: what `mkpasswd` prints. Without it there is no login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<Secret>,
    /// Time zone of logs on the node. Default: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Europe/Berlin")]
    pub timezone: Option<String>,
    /// Kernel settings, `{ "vm.swappiness" = "10" }`. Those that Sheaf sets itself are refused.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub sysctl: BTreeMap<String, String>,
    /// Kernel modules that are loaded at each boot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub modules: Vec<String>,
    /// Kernel arguments added at installation, one in each string. Those that boot and updates depend on are refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["intel_iommu=on"]]))]
    pub kernel_arguments: Vec<String>,
    /// Files under `/etc`, written at each boot.
    #[serde(rename = "file", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub files: Vec<File>,
}

/// One file under `/etc`. Those that Sheaf renders itself are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct File {
    /// Where: under `/etc`.
    #[schemars(example = &"/etc/multipath.conf")]
    pub path: String,
    /// Permissions in octal.
    #[schemars(default = "default_mode", example = &"0600")]
    pub mode: String,
    /// The text. It is never shown: it may hold a secret.
    pub content: Secret,
}

/// Permissions of a file that names none.
pub(crate) fn default_mode() -> String {
    "0644".into()
}

impl File {
    /// Its permission bits; `load` has checked the digits.
    pub fn bits(&self) -> u32 {
        u32::from_str_radix(&self.mode, 8).unwrap_or(0o600)
    }
}

/// A host name that may hold fields of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A fact of the machine, and how many of its last characters.
    Fact(&'static str, Option<usize>),
}

/// Facts that a host name may hold.
pub(crate) const FACTS: [&str; 3] = ["serial", "uuid", "mac"];

impl Hostname {
    /// Reads a template; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let inner = rest[open..].strip_prefix('{').ok_or("has a \"}\" without a \"{\"")?;
            let close = inner.find(['{', '}']).filter(|at| inner[*at..].starts_with('}'));
            let field = &inner[..close.ok_or("has a \"{\" without a \"}\"")?];
            let (name, length) = match field.split_once(':') {
                None => (field, None),
                Some((name, digits)) => (
                    name,
                    Some(
                        digits
                            .parse()
                            .ok()
                            .filter(|n| (1..=32).contains(n))
                            .ok_or_else(|| format!("takes no \"{digits}\" characters"))?,
                    ),
                ),
            };
            let name = FACTS.iter().find(|known| **known == name);
            let name = name.ok_or_else(|| format!("holds an unknown field \"{{{field}}}\""))?;
            parts.push(Part::Text(rest[..open].to_owned()));
            parts.push(Part::Fact(name, length));
            rest = &inner[field.len() + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Whether it is the same on every machine.
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The name on `machine`; the error names the fact that it does not have.
    pub fn on(&self, machine: &Identity) -> Result<String, String> {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name += text,
                Part::Fact(fact, length) => {
                    let value = match *fact {
                        "serial" => machine.serial.as_deref(),
                        "uuid" => machine.uuid.as_deref(),
                        _ => machine.macs.first().map(String::as_str),
                    };
                    let value = value.ok_or_else(|| format!("this machine has no {fact}"))?;
                    let kept: Vec<char> = match *fact {
                        "mac" => value.chars().filter(char::is_ascii_hexdigit).collect(),
                        // A serial may hold blanks and signs that no host name has.
                        _ => value.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect(),
                    };
                    let skipped = length.map_or(0, |length| kept.len().saturating_sub(length));
                    name.extend(kept[skipped..].iter().map(char::to_ascii_lowercase));
                }
            }
        }
        Ok(name)
    }
}
