//! What is made of the types is current: configs/schema/node.json, the keys in docs/config.md.
//!
//! Route in: the types. Route out: the files; `UPDATE=1 cargo test -p sheaf-config` writes them again.

use std::path::{Path, PathBuf};

/// What stands before and after the generated part of the page.
const BEGIN: &str =
    "<!-- keys: made of the types in configs/src/node; UPDATE=1 cargo test -p sheaf-config writes them -->\n";
const END: &str = "<!-- end of keys -->\n";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn is_current(path: &Path, made: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, made).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == made,
        "{} is not what the types say: UPDATE=1 cargo test -p sheaf-config",
        path.display()
    );
}

#[test]
fn the_json_schema_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&sheaf_config::schema::node()).unwrap() + "\n";
    is_current(&file("schema/node.json"), &schema);
}

#[test]
fn the_keys_in_the_docs_are_those_of_the_types() {
    let path = file("../docs/config.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has its mark");
    let (_, after) = rest.split_once(END).expect("the page has its end mark");
    let made = format!("{before}{BEGIN}{}{END}{after}", sheaf_config::reference::node());
    is_current(&path, &made);
}
