//! Whatever an operator writes that is accepted becomes files of a service, each line of which is one that was meant.
//!
//! Route in: node configs of the golden tests, changed at random. Route out: [`sheaf_fuzz`].

use super::{Content, Facts, plan};
use sheaf_fuzz::fuzz;
use std::collections::BTreeSet;
use std::path::{Component, Path};

const WORDS: &[&str] = &[
    "\\n",
    "\\r",
    "\\u0000",
    "[Match]",
    "=",
    "#",
    "\"",
    "true",
    "0",
    "-1",
    "4094",
    "65535",
    "18446744073709551615",
    "192.0.2.1/24",
    "2001:db8::1/64",
    "::",
    "0.0.0.0/0",
    "52:54:00:00:00:01",
    "br0",
    "bond0",
    "enp1s0",
    "static",
    "dhcp",
    "é",
    "%i",
    "$(reboot)",
    "../",
];

#[test]
fn what_is_accepted_becomes_files_of_whole_lines_below_etc_and_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configure");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.sort();
    let texts: Vec<_> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let facts = Facts { has_timezone: true, has_sshd: true, ..Facts::default() };
    fuzz("files of node.toml", |random| {
        let text = random.of(&texts).clone();
        let text = if random.once_in(8) { text } else { random.changed(&text, WORDS) };
        let Ok(config) = sheaf_config::load::parse_node_config("node.toml", &text) else { return false };
        let plan = plan(&config, &config.network.links, &facts);
        let mut written = BTreeSet::new();
        for file in &plan.files {
            let path = &file.path;
            assert!(path.starts_with("/etc") || path.starts_with("/run"), "{}", path.display());
            assert!(path.components().all(|part| part != Component::ParentDir), "{}", path.display());
            assert!(written.insert(path.clone()), "{} twice", path.display());
            let is_of_networkd = path.starts_with("/run/systemd/network");
            if let (true, Content::Text(text)) = (is_of_networkd, &file.content) {
                for line in text.lines() {
                    let is_section = line.starts_with('[') && line.ends_with(']');
                    let is_setting = line.split_once('=').is_some_and(|(key, _)| {
                        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
                    });
                    assert!(
                        line.is_empty() || line.starts_with('#') || is_section || is_setting,
                        "{}: {line:?}",
                        path.display()
                    );
                }
                assert!(!text.contains(['\0', '\r']), "{}", path.display());
            }
        }
        assert!(plan.notes.iter().all(|note| !note.is_empty()));
        true
    });
}
