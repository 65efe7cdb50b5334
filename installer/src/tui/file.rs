//! Answers as the text of node.toml, and the validator's problems back to the answers. Pure.
//!
//! Why by way of the text: the screens end in what an operator could have written, judged by the validator that
//! judges that; so they accept nothing that `sheaf config check` refuses. Until a page was seen its part of the file is
//! left out, or filled with something harmless. Route in: [`Answers`]. Route out: text, [`NodeConfig`], [`Problem`]s.

use super::answers::{Answers, Ask, BOND_MODES, Mode};
use super::machine::{Machine, first_line, holds_data, is_about_disk, proven};
use super::pages::Page;
use crate::plan::{InstallPlan, PlanError};
use sheaf_config::load::parse_node_config;
use sheaf_config::node::{NodeConfig, Then};
use std::fmt::Write;

/// What stands for a secret where the file is shown.
const MASK: &str = "***";

/// Something wrong with the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The answer it is about, if it is about one.
    pub ask: Option<Ask>,
    /// What is wrong and what to do, in the validator's words.
    pub text: String,
}

/// What a file and its plan look like.
#[derive(Clone, Debug)]
pub struct Ready {
    /// node.toml, secrets included.
    pub text: String,
    /// What it says.
    pub config: NodeConfig,
    /// What will be done.
    pub plan: InstallPlan,
}

/// Whether a text may hold the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Secrets {
    Written,
    Masked,
}

/// node.toml with the answers of all pages up to `last`.
pub fn text(answers: &Answers, machine: &Machine, last: Page, secrets: Secrets) -> String {
    let mut toml = Toml::default();
    toml.line("# Written by the Sheaf installer.");
    toml.line("version = 1");
    install(&mut toml, answers, machine, last);
    toml.table("system");
    match answers.text(Ask::Hostname) {
        _ if last < Page::Host => toml.text("hostname", "node"),
        name if name.is_empty() => {}
        name => toml.text("hostname", &name),
    }
    if last >= Page::Network {
        network(&mut toml, answers, machine);
    }
    if last >= Page::Cluster && answers.mode != Mode::Install {
        cluster(&mut toml, answers, last, secrets);
    }
    toml.finish()
}

fn install(toml: &mut Toml, answers: &Answers, machine: &Machine, last: Page) {
    if last < Page::Disk {
        return;
    }
    toml.table("install");
    let Some(disk) = answers.disk.as_ref().and_then(|path| machine.disk(path)) else { return };
    toml.inline("disk", &machine.selector(disk));
    let typed = answers.text(Ask::Wipe);
    if holds_data(disk) && !typed.is_empty() {
        toml.text("wipe", &proven(&typed, disk));
    }
    if answers.then == Then::PowerOff {
        toml.text("then", "power-off");
    }
    let webhook = answers.text(Ask::Webhook);
    if !webhook.is_empty() {
        toml.tables("install.webhook");
        toml.text("url", &webhook);
    }
}

fn network(toml: &mut Toml, answers: &Answers, machine: &Machine) {
    let (dns, ntp) = (answers.words(Ask::Dns), answers.words(Ask::Ntp));
    if !dns.is_empty() || !ntp.is_empty() {
        toml.table("network");
        toml.texts("dns", &dns);
        toml.texts("ntp", &ntp);
    }
    let port = |name: &String| {
        let mac = machine.nic(name).and_then(|nic| nic.permanent_mac.clone());
        mac.unwrap_or_else(|| name.clone())
    };
    let mut ports: Vec<String> = answers.nics.iter().map(port).collect();
    if ports.is_empty() {
        // No ports would mean the only NIC there is, which was not chosen.
        ports.push(String::new());
    }
    let (mtu, vlan) = (answers.text(Ask::Mtu), answers.text(Ask::Vlan));
    if ports.len() > 1 {
        toml.tables("network.bond");
        toml.text("name", "bond0");
        toml.texts("ports", &ports);
        toml.text("mode", BOND_MODES[answers.bond_mode].0);
        toml.number("mtu", &mtu);
        ports = vec!["bond0".into()];
    }
    if let (false, [parent]) = (vlan.is_empty(), &ports[..]) {
        let name = format!("vlan{}", vlan.chars().filter(char::is_ascii_digit).take(4).collect::<String>());
        toml.tables("network.vlan");
        toml.text("name", &name);
        toml.number("id", &vlan);
        toml.text("parent", parent);
        toml.number("mtu", &mtu);
        ports = vec![name];
    }
    toml.tables("network.bridge");
    toml.text("name", "br0");
    toml.texts("ports", &ports);
    if answers.fixed_address {
        let mut addresses = answers.words(Ask::Address);
        if addresses.is_empty() {
            // An empty list would mean DHCP, which is not what was chosen.
            addresses.push(String::new());
        }
        toml.texts("addresses", &addresses);
        for gateway in answers.words(Ask::Gateway) {
            toml.text(if gateway.contains(':') { "gateway6" } else { "gateway" }, &gateway);
        }
    }
    toml.number("mtu", &mtu);
}

fn cluster(toml: &mut Toml, answers: &Answers, last: Page, secrets: Secrets) {
    toml.table("cluster");
    toml.text("mode", if answers.mode == Mode::Create { "create" } else { "join" });
    let typed = |ask| Some(answers.text(ask)).filter(|text| !text.is_empty());
    let joins = answers.mode == Mode::Join;
    if let Some(server) = typed(Ask::Server).filter(|_| joins) {
        toml.text("server", &server);
    }
    if let Some(token) = typed(Ask::Token) {
        toml.text("token", if secrets == Secrets::Masked { MASK } else { &token });
    }
    if joins {
        typed(Ask::CaHash).iter().for_each(|text| toml.text("ca-hash", text));
        if answers.control_plane {
            toml.text("role", "control-plane");
            if let Some(key) = typed(Ask::CertificateKey) {
                toml.text("certificate-key", if secrets == Secrets::Masked { MASK } else { &key });
            }
        }
        return;
    }
    toml.texts("sans", &answers.words(Ask::Sans));
    typed(Ask::ServiceCidr).iter().for_each(|text| toml.text("service-cidr", text));
    if let Some(key) = typed(Ask::AdminKey).filter(|_| last >= Page::Access) {
        toml.texts("admin-keys", &[key + "\n"]);
    }
}

/// Everything wrong with the answers of all pages up to `last`; or, when nothing is, the file and its plan.
pub fn check(answers: &Answers, machine: &Machine, last: Page) -> Result<Option<Ready>, Vec<Problem>> {
    let text = text(answers, machine, last, Secrets::Written);
    let config = parse_node_config("node.toml", &text).map_err(|errors| {
        let problems = errors.problems.into_iter();
        problems
            .map(|p| Problem { ask: ask_of(&p.path), text: format!("{}; {}", p.what, p.remedy) })
            .collect::<Vec<_>>()
    })?;
    if last < Page::Disk {
        return Ok(None);
    }
    match machine.plan(&config) {
        Ok(plan) => Ok(Some(Ready { text, config, plan })),
        Err(errors) => {
            let problems = errors.iter().filter_map(|error| plan_problem(error, answers, machine, last));
            let problems: Vec<_> = problems.collect();
            if problems.is_empty() { Ok(None) } else { Err(problems) }
        }
    }
}

fn plan_problem(error: &PlanError, answers: &Answers, machine: &Machine, last: Page) -> Option<Problem> {
    let disk = answers.disk.as_ref().and_then(|path| machine.disk(path));
    let ask = match error {
        PlanError::Network { .. } if last < Page::Network => return None,
        PlanError::Network { .. } => Some(Ask::Nics),
        error if is_about_disk(error) => {
            Some(if disk.is_some_and(holds_data) { Ask::Wipe } else { Ask::Disk })
        }
        _ => None,
    };
    Some(Problem { ask, text: first_line(error) })
}

/// The answer that a key of node.toml came from.
fn ask_of(path: &str) -> Option<Ask> {
    const KEYS: &[(&str, Ask)] = &[
        ("install.wipe", Ask::Wipe),
        ("install.then", Ask::Then),
        ("install.webhook", Ask::Webhook),
        ("install", Ask::Disk),
        ("system", Ask::Hostname),
        ("network.dns", Ask::Dns),
        ("network.ntp", Ask::Ntp),
        ("network.bond[0].mode", Ask::BondMode),
        ("network.bond[0].mtu", Ask::Mtu),
        ("network.bond", Ask::Nics),
        ("network.vlan[0].mtu", Ask::Mtu),
        ("network.vlan", Ask::Vlan),
        ("network.bridge[0].mtu", Ask::Mtu),
        ("network.bridge[0].gateway", Ask::Gateway),
        ("network.bridge[0].dhcp", Ask::Addressing),
        ("network.bridge[0].addresses", Ask::Address),
        ("network.bridge", Ask::Nics),
        ("cluster.mode", Ask::Mode),
        ("cluster.server", Ask::Server),
        ("cluster.token", Ask::Token),
        ("cluster.ca-hash", Ask::CaHash),
        ("cluster.role", Ask::Role),
        ("cluster.certificate-key", Ask::CertificateKey),
        ("cluster.sans", Ask::Sans),
        ("cluster.service-cidr", Ask::ServiceCidr),
        ("cluster.admin-keys", Ask::AdminKey),
    ];
    KEYS.iter().find(|(key, _)| path.starts_with(key)).map(|(_, ask)| *ask)
}

/// TOML in the making, in the order that the examples have.
#[derive(Debug, Default)]
pub struct Toml(String);

impl Toml {
    /// A line as it is.
    pub fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// `[name]`
    pub fn table(&mut self, name: &str) {
        self.line(&format!("\n[{name}]"));
    }

    /// `[[name]]`
    pub fn tables(&mut self, name: &str) {
        self.line(&format!("\n[[{name}]]"));
    }

    /// `key = "text"`
    pub fn text(&mut self, key: &str, text: &str) {
        self.line(&format!("{key} = {}", quoted(text)));
    }

    /// `key = ["a", "b"]`, or nothing for none.
    pub fn texts<T: AsRef<str>>(&mut self, key: &str, texts: &[T]) {
        if !texts.is_empty() {
            let texts: Vec<_> = texts.iter().map(|text| quoted(text.as_ref())).collect();
            self.line(&format!("{key} = [{}]", texts.join(", ")));
        }
    }

    /// `key = 1`, or nothing for nothing; what is no number is left to the validator, as a text.
    pub fn number(&mut self, key: &str, typed: &str) {
        match typed.parse::<u32>() {
            _ if typed.is_empty() => {}
            Ok(number) => self.line(&format!("{key} = {number}")),
            Err(_) => self.text(key, typed),
        }
    }

    /// `key = { a = "b" }`
    pub fn inline(&mut self, key: &str, pairs: &[(&'static str, String)]) {
        let pairs: Vec<_> = pairs.iter().map(|(key, text)| format!("{key} = {}", quoted(text))).collect();
        self.line(&format!("{key} = {{ {} }}", pairs.join(", ")));
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// `text` as TOML writes it: several lines between three quotes, else between one.
fn quoted(text: &str) -> String {
    let many = text.contains('\n');
    let mut quoted = String::from(if many { "\"\"\"\n" } else { "\"" });
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' if many => quoted.push('\n'),
            char if char.is_control() => drop(write!(quoted, "\\u{:04X}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted + if many { "\"\"\"" } else { "\"" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_comes_back_from_toml_as_it_was() {
        for text in ["", "a\"b\\c", "\u{7f}\u{1}\t", "\"\"\"\nx\\\n\"", "é\n\n", "'''"] {
            let table: toml::Table = format!("key = {}", quoted(text)).parse().unwrap();
            assert_eq!(table["key"].as_str(), Some(text), "{}", quoted(text));
        }
    }

    #[test]
    fn each_key_that_is_written_leads_back_to_what_was_asked() {
        assert_eq!(ask_of("network.bridge[0].addresses[1]"), Some(Ask::Address));
        assert_eq!(ask_of("network.bridge[0].gateway6"), Some(Ask::Gateway));
        assert_eq!(ask_of("install.disk.serial"), Some(Ask::Disk));
        assert_eq!(ask_of("install.webhook[0].url"), Some(Ask::Webhook));
        assert_eq!(ask_of("network.bond[0].ports[0]"), Some(Ask::Nics));
        assert_eq!(ask_of("storage"), None);
    }
}
