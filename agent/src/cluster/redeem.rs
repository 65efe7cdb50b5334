//! Takes a redeemed token out of node.toml.
//!
//! Why here: a token is a way in, and of no use once the node is in. Route in: the operator's file. Route out: the
//! same file, otherwise as the operator wrote it, with the word [`REDEEMED`] in the token's place.

use anyhow::Context as _;
use sheaf_config::node::REDEEMED;
use sheaf_host::file::write_atomically;
use std::path::Path;

/// Strikes `cluster.token` out of the file `path`; true when one was there.
pub fn redeem(path: &Path) -> anyhow::Result<bool> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let Some(without) = without_token(&text).with_context(|| format!("{}: is not TOML", path.display()))?
    else {
        return Ok(false);
    };
    write_atomically(path, without.as_bytes(), 0o600)?;
    Ok(true)
}

fn without_token(text: &str) -> Result<Option<String>, toml_edit::TomlError> {
    let mut document: toml_edit::DocumentMut = text.parse()?;
    let cluster = document.get_mut("cluster").and_then(|item| item.as_table_like_mut());
    let Some(toml_edit::Value::String(token)) =
        cluster.and_then(|cluster| cluster.get_mut("token")?.as_value_mut())
    else {
        return Ok(None);
    };
    if token.value() == REDEEMED {
        return Ok(None);
    }
    let mut struck = toml_edit::Formatted::new(REDEEMED.to_owned());
    *struck.decor_mut() = token.decor().clone();
    *token = struck;
    Ok(Some(document.to_string()))
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
}
