//! Each node config gives exactly the files that are beside it.
//!
//! Route in: `configure/NAME.toml`. Route out: `configure/NAME.files`, then the notes; `UPDATE=1 cargo test -p
//! sheaf-agent --test configure` rewrites them.

use sheaf_agent::config::{Content, Facts, File, Plan};
use sheaf_links::FoundNic;
use std::path::Path;

/// A machine with two NICs, and an image as Sheaf builds it; `NAME-with-sshd.toml` runs one that holds an SSH server.
fn facts(case: &Path) -> Facts {
    let nic = |name: &str, mac: &str| FoundNic {
        name: name.into(),
        path: Some(format!("pci-0000:0{}:00.0", &name[3..4])),
        permanent_mac: Some(mac.into()),
    };
    Facts {
        nics: vec![nic("enp1s0", "52:54:00:00:00:01"), nic("enp2s0", "52:54:00:00:00:02")],
        usual_nic: None,
        has_sshd: case.to_string_lossy().contains("with-sshd"),
        has_timezone: true,
        authorities: "-----BEGIN CERTIFICATE-----\nthe image's\n-----END CERTIFICATE-----\n".into(),
        kernel_arguments: "ro quiet intel_iommu=on".into(),
    }
}

fn shown(file: &File) -> String {
    let head = format!("==> {} {:o}", file.path.display(), file.mode);
    match &file.content {
        Content::Text(text) => format!("{head}\n{text}"),
        Content::Hidden(text) => format!("{head} hidden\n{}", text.reveal()),
        Content::Link(to) => format!("{head} -> {to}\n"),
    }
}

#[test]
fn each_node_config_gives_exactly_the_files_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configure");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    cases.sort();
    assert!(cases.len() >= 12, "{} cases", cases.len());
    for case in cases {
        let config = sheaf_config::load::node_config(&case).unwrap_or_else(|errors| panic!("{errors}"));
        let Plan { files, notes } = sheaf_agent::config::plan(&config, &config.network.links, &facts(&case));
        let mut text: String = files.iter().map(shown).collect();
        text.extend(notes.iter().map(|note| format!("==> not done: {note}\n")));
        let golden = case.with_extension("files");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
    }
}

#[test]
fn authorities_of_the_operator_are_added_once_however_often_it_is_rendered() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configure/host-settings.toml");
    let config = sheaf_config::load::node_config(&case).unwrap();
    let bundle = |facts: &Facts| {
        let files = sheaf_agent::config::plan(&config, &config.network.links, facts).files;
        let file = files.into_iter().find(|file| file.path.ends_with("ca-certificates.crt")).unwrap();
        let Content::Text(text) = file.content else { panic!("no text") };
        text
    };
    let once = bundle(&facts(&case));
    assert_eq!(bundle(&Facts { authorities: once.clone(), ..facts(&case) }), once);
    assert!(once.starts_with("-----BEGIN CERTIFICATE-----\nthe image's"), "{once}");
}
