//! Configs of others, what becomes of them and what is noted, side by side: `NAME.yaml` or `NAME.answer`, `NAME.toml`,
//! `NAME.notes` (which end with what the result still lacks).
//!
//! `UPDATE=1 cargo test -p sheaf-config` writes the results again.

use sheaf_config::convert::{From, convert};
use std::path::Path;

fn is_golden(path: &Path, made: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), made, "{}", path.display());
}

#[test]
fn what_a_file_of_others_says_is_carried_over_or_noted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let from = match path.extension().and_then(|end| end.to_str()) {
            Some("yaml") => From::Harvester,
            Some("answer") => From::Proxmox,
            _ => continue,
        };
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let converted = convert(from, "other", &text).unwrap();
        let lacks = match sheaf_config::load::parse_config_file("node.toml", &converted.toml) {
            Ok(_) => String::new(),
            Err(errors) => format!("\n{errors}\n"),
        };
        let notes = converted.notes.join("\n") + "\n" + &lacks;
        assert!(!notes.contains("hush"), "{notes}");
        is_golden(&path.with_extension("toml"), &converted.toml);
        is_golden(&path.with_extension("notes"), &notes);
    }
    assert!(seen >= 4);
}

#[test]
fn a_file_that_is_none_is_refused_with_its_line_and_without_quoting_it() {
    let refusal = |from, text| convert(from, "other", text).unwrap_err().to_string();
    assert_eq!(
        refusal(From::Harvester, "os:\n  password: hush: hush\n"),
        "other:2: YAML: is not well-formed; correct the line (format: https://yaml.org)"
    );
    let toml = refusal(From::Proxmox, "[global]\nroot-password = hush\n");
    assert!(toml.starts_with("other:2: TOML: ") && !toml.contains("hush"), "{toml}");
    assert_eq!(
        refusal(From::Harvester, "- a\n"),
        "other: file: is not Harvester's config.yaml; give the file itself"
    );
}
