//! Takes a redeemed token out of node.toml.
//!
//! Why here: a token is a way in, and of no use once the node is in. Route in: the operator's file. Route out: the
//! same file, otherwise as the operator wrote it, with the word [`REDEEMED`] in the token's place, and in that of the key that
//! came with it.

use anyhow::Context as _;
use sheaf_config::node::REDEEMED;
use sheaf_host::file::write_atomically;
use std::path::Path;

/// Keys of `[cluster]` that are of use once.
const ONCE: [&str; 2] = ["token", "certificate-key"];

/// Strikes `cluster.token` and `cluster.certificate-key` out of the file `path`; true when one was there.
pub fn redeem(path: &Path) -> anyhow::Result<bool> {
    let Some(without) =
        without_token(&read(path)?).with_context(|| format!("{}: is not TOML", path.display()))?
    else {
        return Ok(false);
    };
    write_atomically(path, without.as_bytes(), 0o600)?;
    Ok(true)
}

/// Whether the file `path` holds a token that is not redeemed.
pub fn holds_token(path: &Path) -> anyhow::Result<bool> {
    let mut document: toml_edit::DocumentMut =
        read(path)?.parse().with_context(|| format!("{}: is not TOML", path.display()))?;
    Ok(once(&mut document, "token").is_some())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// The value of `key` in `[cluster]` that is not struck out yet.
fn once<'a>(
    document: &'a mut toml_edit::DocumentMut,
    key: &str,
) -> Option<&'a mut toml_edit::Formatted<String>> {
    let cluster = document.get_mut("cluster")?.as_table_like_mut()?;
    match cluster.get_mut(key)?.as_value_mut()? {
        toml_edit::Value::String(value) if value.value() != REDEEMED => Some(value),
        _ => None,
    }
}

fn without_token(text: &str) -> Result<Option<String>, toml_edit::TomlError> {
    let mut document: toml_edit::DocumentMut = text.parse()?;
    let mut was_there = false;
    for key in ONCE {
        if let Some(value) = once(&mut document, key) {
            let mut struck = toml_edit::Formatted::new(REDEEMED.to_owned());
            *struck.decor_mut() = value.decor().clone();
            *value = struck;
            was_there = true;
        }
    }
    Ok(was_there.then(|| document.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_token_stays_as_it_was_written() {
        let text = "version = 1 # ours\n\n[cluster]\n  mode   = \"join\"\ntoken = \"abcdef.0123456789abcdef\" # once\nserver = 'https://a:6443'\n\n# end\n";
        let expected = "version = 1 # ours\n\n[cluster]\n  mode   = \"join\"\ntoken = \"redeemed\" # once\nserver = 'https://a:6443'\n\n# end\n";
        assert_eq!(without_token(text).unwrap().unwrap(), expected);
    }

    #[test]
    fn inline_and_dotted_forms_are_found_too() {
        for text in [
            "cluster = { mode = \"join\", token = \"x\" }\n",
            "cluster.mode = \"join\"\ncluster.token = \"x\"\n",
        ] {
            let without = without_token(text).unwrap().unwrap();
            assert_eq!(without, text.replace("\"x\"", "\"redeemed\""));
            assert_eq!(without_token(&without).unwrap(), None);
        }
        assert_eq!(without_token("version = 1\n").unwrap(), None);
    }

    #[test]
    fn the_key_that_came_with_a_token_goes_with_it_and_a_redeemed_token_is_no_invitation() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[cluster]\ntoken = \"t\" # once\ncertificate-key = \"k\"\n";
        std::fs::write(file.path(), text).unwrap();
        assert!(holds_token(file.path()).unwrap());
        assert!(redeem(file.path()).unwrap());
        assert!(!holds_token(file.path()).unwrap());
        let without = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(without, "[cluster]\ntoken = \"redeemed\" # once\ncertificate-key = \"redeemed\"\n");
    }
}
