//! docs/benchmarks.md: a block for each section, between two marks that name it.
//!
//! Why here: a whole run takes hours. A section that was measured is written at once, and the others stay, each with the date
//! and the commit of its own run. Route in: the file, a section's text. Route out: the file.

use anyhow::{Context as _, Result};

/// The file's first lines.
const PREFACE: &str = "# Benchmarks\n\nWritten by `make bench`, one section after the other; below each is when and on which \
    commit it was measured.\nUnder emulation times are upper bounds: compare them with each other, not with hardware.\n";

fn marks(name: &str) -> (String, String) {
    (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"))
}

/// The text of section `name` in `document`.
fn block<'d>(document: &'d str, name: &str) -> Result<Option<&'d str>> {
    let (begin, end) = marks(name);
    let Some((_, rest)) = document.split_once(&begin) else { return Ok(None) };
    let (text, _) = rest.split_once(&end).with_context(|| format!("docs/benchmarks.md: no line {end}"))?;
    Ok(Some(text))
}

/// `document` with `text` as section `name`; `names` are all sections, in the file's order. Others go.
pub fn with(document: &str, names: &[&str], name: &str, text: &str) -> Result<String> {
    let mut whole = PREFACE.to_owned();
    for &of in names {
        let text = if of == name { Some(text) } else { block(document, of)? };
        if let Some(text) = text {
            let (begin, end) = marks(of);
            whole += &format!("\n{begin}{}\n{end}", text.trim());
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_its_place_and_the_others_stay_as_they_were() {
        let names = ["sizes", "boot", "vms"];
        let first = with("", &names, "vms", "\n## Starting a VM\n").unwrap();
        let both = with(&first, &names, "sizes", "## Sizes\n| a | 1 |").unwrap();
        let again = with(&both, &names, "sizes", "## Sizes\n| a | 2 |").unwrap();
        let expected = "\n<!-- sizes -->\n## Sizes\n| a | 2 |\n<!-- /sizes -->\n\n<!-- vms -->\n## Starting a VM\n<!-- /vms -->\n";
        assert_eq!(again, format!("{PREFACE}{expected}"));
        // A section that is measured no longer.
        assert!(!with(&again, &["sizes"], "sizes", "x").unwrap().contains("vms"));
    }

    #[test]
    fn a_damaged_file_is_not_written_over() {
        let error = with("<!-- vms -->\ncut", &["sizes", "vms"], "sizes", "x").unwrap_err().to_string();
        assert_eq!(error, "docs/benchmarks.md: no line <!-- /vms -->\n");
    }
}
