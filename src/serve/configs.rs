//! Node configs: each is handed out to one boot of one machine, the first that asks for it.
//!
//! Why: a config holds a token that lets a machine into the cluster. Booting by PXE is not authenticated, so this cannot
//! tell a machine from one that imitates it; but an imitator that comes first takes the config from the machine, which
//! then fails to install and says why, and the operator sees both requests. A machine never gets another one's secrets.
//! Route in: a config for one machine or for many. Route out: the part of the machine that asks; or a refusal, in numbers
//! for the machine and in words for the operator.

use super::http::{Answer, Request, Site};
use anyhow::{Context as _, Result};
use sheaf_config::handover::{Introduction, TAKEN, UNKNOWN};
use sheaf_config::load::ConfigFile;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Where the config is.
pub const PATH: &str = "/node.toml";

/// The configs of one file, and who has them.
pub struct Configs {
    file: ConfigFile,
    text: String,
    /// By host name.
    holders: Mutex<BTreeMap<String, Holder>>,
}

/// Who was given a config.
struct Holder {
    boot: String,
    peer: IpAddr,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// The config of the node of this name.
    Hand(String, String),
    /// No installer asks like this.
    NoInstaller,
    /// No node of the file is this machine; why.
    Unknown(String),
    /// Another boot has the config of this node, and where it was.
    Taken(String, IpAddr),
}

impl Configs {
    /// Those of `file`, which is at `path`.
    pub fn new(path: &Path, file: ConfigFile) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self { file, text, holders: Mutex::default() })
    }

    fn decide(&self, introduction: Option<&str>, peer: IpAddr) -> Decision {
        let Some(asks) = introduction.and_then(Introduction::decode) else { return Decision::NoInstaller };
        let config = match self.file.for_machine(&asks.machine) {
            Ok(config) => config,
            Err(errors) => return Decision::Unknown(errors.to_string()),
        };
        let text = match self.file.text_of(&self.text, &config) {
            Ok(text) => text,
            Err(error) => return Decision::Unknown(error.to_string()),
        };
        let name = config.system.hostname;
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        match holders.get(&name) {
            Some(holder) if holder.boot != asks.boot => Decision::Taken(name, holder.peer),
            _ => {
                holders.insert(name.clone(), Holder { boot: asks.boot, peer });
                Decision::Hand(name, text)
            }
        }
    }
}

impl Site for Configs {
    fn answer(&self, request: &Request, peer: IpAddr) -> Answer {
        if request.path != PATH || request.method != "GET" {
            return Answer::empty("404 Not Found");
        }
        match self.decide(request.introduction.as_deref(), peer) {
            Decision::Hand(name, text) => {
                eprintln!("{peer} was given the config of {name}");
                Answer::secret(&text)
            }
            Decision::NoInstaller => Answer::empty("400 Bad Request"),
            Decision::Unknown(why) => {
                eprintln!("{peer} is not in the config: {why}");
                Answer::empty(status(UNKNOWN))
            }
            Decision::Taken(name, holder) => {
                eprintln!(
                    "WARNING: {peer} asks for the config of {name}, which was given to {holder}. If you did not reset \
                     that machine, someone else has the config: revoke its token. To install it again, start `sheaf \
                     pxe` again."
                );
                Answer::empty(status(TAKEN))
            }
        }
    }
}

fn status(number: u16) -> &'static str {
    match number {
        TAKEN => "410 Gone",
        _ => "403 Forbidden",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{Identity, Slots, listen};
    use sheaf_config::handover::HEADER;
    use sheaf_config::node;
    use sheaf_host::call::{Call as _, Http, Reply};
    use sheaf_host::trust::{Fingerprint, Trust, presented};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::time::Duration;

    const ONE: &str = "version = 1\nsystem.hostname = \"n1\"\n[cluster]\nmode = \"create\"\ntoken = \"abcdef.0123456789abcdef\"\n";
    const FLEET: &str = "version = 1\n[[node]]\nmatch = { serial = \"S1\" }\nsystem.hostname = \"n1\"\n\
                         [[node]]\nmatch = { serial = \"S2\" }\nsystem.hostname = \"n2\"\n";
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn configs(text: &str) -> Configs {
        let file = sheaf_config::load::parse_config_file("node.toml", text).unwrap();
        Configs { file, text: text.into(), holders: Mutex::default() }
    }

    fn header(serial: &str, boot: &str) -> String {
        let machine = node::Identity { serial: Some(serial.into()), ..Default::default() };
        Introduction { boot: boot.into(), machine }.encode()
    }

    #[test]
    fn a_config_is_handed_out_to_one_boot_however_often_it_asks() {
        let configs = configs(ONE);
        let ask = |serial: &str, boot: &str| configs.decide(Some(&header(serial, boot)), PEER);
        let handed = Decision::Hand("n1".into(), ONE.into());
        assert_eq!(ask("S1", "first"), handed);
        assert_eq!(ask("S1", "first"), handed, "a connection may have broken");
        assert_eq!(ask("S1", "second"), Decision::Taken("n1".into(), PEER));
        assert_eq!(ask("S2", "third"), Decision::Taken("n1".into(), PEER));
    }

    #[test]
    fn a_machine_gets_its_own_part_of_a_file_for_many() {
        let configs = configs(FLEET);
        let ask = |serial: &str| configs.decide(Some(&header(serial, serial)), PEER);
        let Decision::Hand(name, text) = ask("S2") else { panic!() };
        assert_eq!(name, "n2");
        assert!(text.contains("n2") && !text.contains("n1") && !text.contains("S1"), "{text}");
        assert!(
            matches!(ask("S1"), Decision::Hand(name, _) if name == "n1"),
            "the other one's is still there"
        );
        assert!(matches!(ask("S3"), Decision::Unknown(_)));
    }

    #[test]
    fn what_is_no_installer_gets_nothing() {
        for introduction in [None, Some(""), Some("e30"), Some("curl")] {
            assert_eq!(configs(ONE).decide(introduction, PEER), Decision::NoInstaller);
        }
    }

    #[test]
    fn a_config_travels_over_tls_to_a_client_that_knows_the_certificate_and_to_no_other() {
        let identity = Identity::generate().unwrap();
        let pin = Fingerprint::parse(&identity.fingerprint()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}{PATH}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            listen(&listener, &Slots::default(), Some(&identity), &Arc::new(configs(ONE)));
        });
        let ask = |trust: Trust, headers: &[(String, String)]| {
            let mut request = sheaf_host::call::Request::get(&url, trust, Duration::from_secs(20));
            request.headers = headers.to_vec();
            Http.call(&request)
        };
        let installer = [(HEADER.to_owned(), header("S1", "b"))];
        let wrong = Trust::Certificate(Fingerprint([7; 32]));
        assert!(ask(wrong, &installer).is_err(), "another certificate was believed");
        assert!(ask(Trust::Public, &installer).is_err());
        let Reply { status, body } = ask(Trust::Certificate(pin), &installer).unwrap();
        assert_eq!((status, body.as_slice()), (200, ONE.as_bytes()));
        assert_eq!(ask(Trust::Certificate(pin), &[]).unwrap().status, 400);
        let other = [(HEADER.to_owned(), header("S1", "c"))];
        assert_eq!(ask(Trust::Certificate(pin), &other).unwrap().status, TAKEN);
        // Who asks without knowing it is shown the certificate to compare.
        let address = listener_address(&url);
        let shown = presented(&address.ip().to_string(), address.port(), Duration::from_secs(20)).unwrap();
        assert_eq!(shown, pin);
        // In plain there is nothing to be had at that port.
        assert!(ask_plain(&url, &installer).is_err());
    }

    fn listener_address(url: &str) -> std::net::SocketAddr {
        url.strip_prefix("https://").unwrap().split('/').next().unwrap().parse().unwrap()
    }

    fn ask_plain(url: &str, headers: &[(String, String)]) -> Result<Reply, sheaf_host::call::CallError> {
        let url = url.replace("https:", "http:");
        let mut request = sheaf_host::call::Request::get(url, Trust::Public, Duration::from_secs(20));
        request.headers = headers.to_vec();
        Http.call(&request)
    }
}
