//! Each node config gives exactly the files that stand beside it.
//!
//! Route in: `configure/NAME.toml`. Route out: `configure/NAME.files`; `UPDATE=1 cargo test -p sheaf-agent --test
//! configure` rewrites them.

use sheaf_host::nic::Nic;
use std::path::Path;

/// A machine with two NICs.
fn nics() -> Vec<Nic> {
    let nic = |name: &str, mac: &str| Nic {
        name: name.into(),
        permanent_mac: Some(mac.into()),
        driver: Some("virtio_net".into()),
        carrier: None,
    };
    vec![nic("enp1s0", "52:54:00:00:00:01"), nic("enp2s0", "52:54:00:00:00:02")]
}

#[test]
fn each_node_config_gives_exactly_the_files_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configure");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    cases.sort();
    assert!(cases.len() >= 5, "{} cases", cases.len());
    for case in cases {
        let config = sheaf_config::load::node_config(&case).unwrap_or_else(|errors| panic!("{errors}"));
        let plan = sheaf_agent::config::plan(&config, &nics(), None);
        let text: String = plan
            .iter()
            .map(|file| format!("==> {} {:o}\n{}", file.path.display(), file.mode, file.content))
            .collect();
        let golden = case.with_extension("files");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
    }
}
