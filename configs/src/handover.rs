//! What an installer sends when it asks `sheaf pxe` for its node config, and what the answer means.
//!
//! Why here: the installer and the server are two programs. A config holds secrets, so each node's is handed out to one
//! boot of one machine: the one that asks first. Route in: the boot and the machine. Route out: one HTTP header.

use crate::node::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Name of the header.
pub const HEADER: &str = "Sheaf-Installer";
/// HTTP status: another boot was given the config of this node.
pub const TAKEN: u16 = 410;
/// HTTP status: no node of the config is this machine.
pub const UNKNOWN: u16 = 403;
/// Longest header that is read, in bytes: a server with 64 NICs needs 2000.
const LONGEST: usize = 8 << 10;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The kernel's random name of this boot (/proc/sys/kernel/random/boot_id): who knows it may ask again.
    pub boot: String,
    /// The machine.
    pub machine: Identity,
}

impl Introduction {
    /// The header's value.
    pub fn encode(&self) -> String {
        // Strings and lists of strings are always JSON.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the header's value.
    pub fn decode(value: &str) -> Option<Self> {
        let json = (value.len() <= LONGEST).then(|| URL_SAFE_NO_PAD.decode(value).ok()).flatten()?;
        serde_json::from_slice(&json).ok().filter(|introduction: &Self| !introduction.boot.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_whatever_firmware_says_of_the_machine() {
        let serial = Some("Überprüfung \"7\"\u{7}".to_owned());
        let machine = Identity { serial, uuid: None, macs: vec!["52:54:00:00:00:01".into()] };
        let introduction = Introduction { boot: "b".into(), machine };
        assert!(introduction.encode().bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(Introduction::decode(&introduction.encode()), Some(introduction));
    }

    #[test]
    fn what_no_installer_sends_is_not_read() {
        let nobody = Introduction { boot: String::new(), machine: Identity::default() };
        for value in ["", "e30", "@@", &nobody.encode(), &"A".repeat(LONGEST + 1)] {
            assert_eq!(Introduction::decode(value), None, "{value:.20}");
        }
    }
}
