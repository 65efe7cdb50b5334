//! Everything the operator has said so far, page by page. Pure.
//!
//! Why apart from the pages: going back and forth loses nothing, since pages only look at this value and change it.
//! Route in: keys, through [`super::state`]. Route out: [`super::file`] writes it as node.toml.

use super::field::Field;
use sheaf_config::node::Then;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One thing that is asked; problems are shown next to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are those of node.toml
pub enum Ask {
    Mode,
    Disk,
    Wipe,
    Then,
    Webhook,
    Nics,
    BondMode,
    Vlan,
    Mtu,
    Addressing,
    Address,
    Gateway,
    Dns,
    Ntp,
    Hostname,
    Server,
    Token,
    CaHash,
    Role,
    CertificateKey,
    Sans,
    ServiceCidr,
    AdminKey,
}

/// What the machine becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The first node of a cluster.
    #[default]
    Create,
    /// A further node.
    Join,
    /// A node without a cluster.
    Install,
}

/// How the NICs of a bond share the work, as node.toml writes it, and what that asks of the switch.
pub const BOND_MODES: [(&str, &str); 3] = [
    ("active-backup", "one works, the others wait; suits every switch"),
    ("802.3ad", "LACP; the switch has the ports in one group"),
    ("balance-xor", "the switch has a static group"),
];

/// All answers.
#[derive(Clone, Default)]
pub struct Answers {
    texts: BTreeMap<Ask, Field>,
    /// What the machine becomes.
    pub mode: Mode,
    /// Node in /dev of the disk that was chosen.
    pub disk: Option<PathBuf>,
    /// What follows the installation.
    pub then: Then,
    /// Kernel names of the NICs that were chosen.
    pub nics: Vec<String>,
    /// Index in [`BOND_MODES`].
    pub bond_mode: usize,
    /// The address is given here; otherwise DHCP is asked.
    pub fixed_address: bool,
    /// A joining node becomes one of the control plane.
    pub control_plane: bool,
}

impl Answers {
    /// What was typed at `ask`, with its cursor.
    pub fn field(&self, ask: Ask) -> Field {
        self.texts.get(&ask).cloned().unwrap_or_default()
    }

    /// The same, for changing.
    pub fn field_mut(&mut self, ask: Ask) -> &mut Field {
        self.texts.entry(ask).or_default()
    }

    /// What was typed at `ask`, without blanks around it.
    pub fn text(&self, ask: Ask) -> String {
        self.field(ask).text().trim().to_owned()
    }

    /// The words at `ask`: blanks and commas part them.
    pub fn words(&self, ask: Ask) -> Vec<String> {
        let text = self.text(ask);
        let words = text.split([' ', ',', '\n']).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    }

    /// Puts `text` in place of what was typed at `ask`.
    pub fn set(&mut self, ask: Ask, text: &str) {
        self.texts.insert(ask, Field::from(text));
    }
}
