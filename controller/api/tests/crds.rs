//! The CRDs that people read are the ones that the controller applies.
//!
//! `UPDATE=1 cargo test -p sheaf-api --test crds` writes them again after a change of types or rules.

use std::{fs, path::Path};

use sheaf_api::crd;

#[test]
fn the_files_in_crds_are_what_the_types_and_rules_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for definition in crd::all().unwrap() {
        let file = folder.join(format!("{}.json", definition.metadata.name.as_deref().unwrap()));
        let now = serde_json::to_string_pretty(&definition).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &now).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            kept == now,
            "{} is not what the types say; run UPDATE=1 cargo test -p sheaf-api --test crds",
            file.display()
        );
    }
}
