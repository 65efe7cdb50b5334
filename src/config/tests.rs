//! `sheaf config` as an operator and a script meet it: exit codes, what stands on standard output, what on standard error.
//!
//! Route in: the built command, files in a folder of its own. Route out: both streams and the code.

use sheaf_host::run::{Command, Run as _, System};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn good(out: &str) -> Self {
        Self { code: 0, out: out.into(), err: String::new() }
    }
}

/// A desk with files on it.
struct Desk(TempDir);

impl Desk {
    fn with(files: &[(&str, &str)]) -> Self {
        let desk = Self(TempDir::new().unwrap());
        for (name, text) in files {
            std::fs::write(desk.0.path().join(name), text).unwrap();
            only_mine(&desk.0.path().join(name));
        }
        desk
    }

    fn config(&self, words: &[&str]) -> Said {
        let before = self.files();
        let streams = TempDir::new().unwrap();
        let (out, err) = (streams.path().join("out"), streams.path().join("err"));
        let script = format!("\"$0\" config \"$@\" >{} 2>{}; echo $?", out.display(), err.display());
        let call = Command::new("sh").args(["-c", &script]).arg(env!("CARGO_BIN_EXE_sheaf")).args(words);
        let code = System.run(&call.dir(self.0.path())).unwrap().text().parse().unwrap();
        assert_eq!(self.files(), before, "{words:?} wrote something");
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        Said { code, out: text(&out), err: text(&err) }
    }

    fn files(&self) -> Vec<(PathBuf, String)> {
        let entries = std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            entries.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
        files.sort();
        files
    }
}

fn only_mine(path: &Path) {
    let owner_alone = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, owner_alone).unwrap();
}

const GOOD: &str = "version = 1\nsystem.hostname = \"node-1\"\n";
const BAD: &str = "version = 1\nsystem.hostnam = \"node-1\"\n[network]\ndns = [\"one\"]\n";
const MISTAKES: &str = "bad.toml:2: system.hostnam: unknown key; did you mean hostname?\n\
     bad.toml:2: system.hostname: is missing; add hostname = \"node-1\" to [system]\n\
     bad.toml:4: network.dns: \"one\" is not an address; write \"192.0.2.1\" or \"2001:db8::1\"\n\
     empty.toml:1: system: is missing; add [system] with hostname = \"node-1\"\n\
     empty.toml:1: version: is missing; add version = 1\n\
     nowhere.toml: file: No such file or directory (os error 2); give a file that can be read\n\
     sheaf: 3 of 4 files refused\n";

#[test]
fn a_good_file_is_said_so_on_standard_output() {
    let desk = Desk::with(&[("node.toml", GOOD)]);
    assert_eq!(desk.config(&["check", "node.toml"]), Said::good("node.toml: good, a node named node-1\n"));
    let fleet = include_str!("../../configs/examples/fleet.toml");
    let desk = Desk::with(&[("fleet.toml", fleet)]);
    let nodes = fleet.matches("\n[[node]]").count();
    assert_eq!(
        desk.config(&["check", "fleet.toml"]),
        Said::good(&format!("fleet.toml: good, {nodes} nodes\n"))
    );
}

#[test]
fn every_mistake_of_every_file_is_on_standard_error_and_the_code_is_1() {
    let desk = Desk::with(&[("bad.toml", BAD), ("node.toml", GOOD), ("empty.toml", "")]);
    let said = desk.config(&["check", "bad.toml", "node.toml", "empty.toml", "nowhere.toml"]);
    let out = "node.toml: good, a node named node-1\n".into();
    assert_eq!(said, Said { code: 1, out, err: MISTAKES.into() });
}

#[test]
fn a_token_that_others_may_read_is_warned_of() {
    let join = include_str!("../../configs/examples/join.toml");
    let desk = Desk::with(&[("node.toml", join)]);
    assert_eq!(desk.config(&["check", "node.toml"]).err, "");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(desk.0.path().join("node.toml"), everybody).unwrap();
    let said = desk.config(&["check", "node.toml"]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (0, "node.toml: holds a token and others may read it; chmod 600 node.toml\n")
    );
    assert!(!said.out.contains("holds a token"), "{}", said.out);
}

#[test]
fn a_certificate_for_browsers_is_warned_of_when_it_is_for_no_name_of_the_node() {
    let pem =
        [include_str!("../../configs/tests/console.crt"), include_str!("../../configs/tests/console.key")];
    let [certificate, key] = pem;
    let text = format!(
        "version = 1\n[system]\nhostname = \"a\"\n[console]\ncertificate = '''\n{certificate}'''\nkey = '''\n{key}'''\n"
    );
    let desk = Desk::with(&[("node.toml", &text)]);
    let said = desk.config(&["check", "node.toml"]);
    let warning = "node.toml: console.certificate: is not for any name of this node: a; browsers take it only for a name that is in \
                   it; add that name to cluster.sans if it leads here\n";
    assert_eq!((said.code, said.err.as_str()), (0, warning));
}

/// What `sheaf-installer inventory --json` prints on a machine with one disk and one NIC.
const MACHINE: &str = r#"{"firmware":"uefi","memory":17179869184,"machine":{"serial":"M1","uuid":null,"macs":[]},
"disks":[{"path":"/dev/nvme0n1","links":[],"serial":"A","wwn":null,"model":"SSD","bus":"nvme","size":960197124096,
"sector-size":512,"read-only":false,"removable":false,"is-medium":false,"uses":[],"signatures":[],"unreadable":null,
"older":null}],"nics":[{"name":"enp1s0","permanent-mac":"52:54:00:00:00:01","path":"pci-0000:01:00.0",
"driver":"igb","carrier":true}]}"#;

#[test]
fn a_config_is_checked_against_a_machine() {
    let install = "\n[install]\ndisk = { serial = \"A\" }\n[[network.nic]]\nname = \"up0\"\n\
                   path = \"pci-0000:01:00.0\"\ndhcp = true\n";
    let other = install.replace("\"A\"", "\"B\"").replace("01:00.0", "02:00.0");
    let desk = Desk::with(&[
        ("node.toml", &format!("{GOOD}{install}")),
        ("other.toml", &format!("{GOOD}{other}")),
        ("machine.json", MACHINE),
    ]);
    assert_eq!(
        desk.config(&["check", "node.toml", "--against", "machine.json"]),
        Said::good(
            "node.toml: good, a node named node-1\n\
             node.toml: this machine is the node node-1\n\
             node.toml: install.disk: /dev/nvme0n1 960.1 GB nvme SSD serial A\n\
             node.toml: network.nic[0]: enp1s0 (52:54:00:00:00:01)\n"
        )
    );
    let said = desk.config(&["check", "other.toml", "--against", "machine.json"]);
    assert_eq!(
        said,
        Said {
            code: 1,
            out: String::new(),
            err: "other.toml:5: install.disk: no disk has serial = \"B\"; there are /dev/nvme0n1 960.1 GB nvme SSD \
                  serial A (its serial is A); write what one of them has\n\
                  other.toml:6: network.nic[0]: no NIC is this one; there are enp1s0 (52:54:00:00:00:01); correct mac, \
                  path or name\n\
                  sheaf: 1 of 1 files refused\n"
                .into()
        }
    );
    let said = desk.config(&["check", "node.toml", "--against", "node.toml"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(
        said.err.starts_with(
            "sheaf: node.toml is not an inventory: give what `sheaf-installer inventory --json` printed: "
        ),
        "{}",
        said.err
    );
}

#[test]
fn the_schema_on_standard_output_is_the_one_in_the_repository() {
    let said = Desk::with(&[]).config(&["schema"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&said.out), json(include_str!("../../configs/schema/node.json")));
}

#[test]
fn the_reference_on_standard_output_is_the_one_in_the_docs() {
    let said = Desk::with(&[]).config(&["docs"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.len() > 1000 && include_str!("../../docs/config.md").contains(&said.out));
}

#[test]
fn every_example_is_accepted_by_check() {
    let examples = ["create-single", "create-static", "join", "bond-vlan", "fleet", "lab"];
    let plain = Desk::with(&[]).config(&["example"]);
    for example in examples {
        let said = Desk::with(&[]).config(&["example", example]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{example}");
        assert_eq!(example == "create-single", said == plain, "{example}");
        let checked = Desk::with(&[("node.toml", &said.out)]).config(&["check", "node.toml"]);
        assert_eq!((checked.code, checked.err.as_str()), (0, ""), "{example}");
        assert!(checked.out.starts_with("node.toml: good, "), "{}", checked.out);
    }
}

#[test]
fn a_converted_config_is_on_standard_output_and_what_was_lost_on_standard_error() {
    let harvester = include_str!("../../configs/tests/convert/harvester-create.yaml");
    let desk = Desk::with(&[("config.yaml", harvester)]);
    let said = desk.config(&["convert", "--from", "harvester", "config.yaml"]);
    assert_eq!(said.code, 0);
    assert_eq!(said.out, include_str!("../../configs/tests/convert/harvester-create.toml"));
    let notes = include_str!("../../configs/tests/convert/harvester-create.notes");
    let (notes, lacks) = notes.split_once("\n\n").unwrap();
    assert_eq!(said.err, format!("{notes}\n\nstill missing:\n{lacks}"));

    let proxmox = include_str!("../../configs/tests/convert/proxmox-dhcp.answer");
    let desk = Desk::with(&[("answer.toml", proxmox)]);
    let said = desk.config(&["convert", "--from", "proxmox", "answer.toml"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, include_str!("../../configs/tests/convert/proxmox-dhcp.toml"))
    );
}

#[test]
fn a_file_that_is_not_what_it_is_called_is_not_converted() {
    let desk = Desk::with(&[("config.yaml", "- a\n")]);
    assert_eq!(
        desk.config(&["convert", "--from", "harvester", "config.yaml"]),
        Said {
            code: 1,
            out: String::new(),
            err: "sheaf: config.yaml: file: is not Harvester's config.yaml; give the file itself\n".into()
        }
    );
}

#[test]
fn a_wrong_call_is_told_from_a_wrong_file_by_its_code() {
    let desk = Desk::with(&[("node.toml", GOOD)]);
    for words in [&["check"][..], &["example", "nothing"], &["convert", "node.toml"], &["chek", "node.toml"]]
    {
        let said = desk.config(words);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words:?}");
        assert!(said.err.starts_with("error: "), "{}", said.err);
    }
}
