//! Data files of the image: one item a line.
//!
//! Package lists, dracut's arguments and kernel command lines are data under `os-image/image/`, so that changing
//! the image needs no Rust. Route in: a file. Route out: its items in order, without comments (`#`) and blank lines.

use crate::error::BuildError;
use std::fs;
use std::path::Path;

/// The items of the file at `path`.
pub fn read(path: &Path) -> Result<Vec<String>, BuildError> {
    Ok(parse(&fs::read_to_string(path).map_err(BuildError::io(path))?))
}

/// The items of the file at `path`, each with its line, `node.list:12`.
pub fn with_lines(path: &Path) -> Result<Vec<(String, String)>, BuildError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).map_err(BuildError::io(path))?;
    let lines = each_line(&text).into_iter().enumerate().filter(|(_, item)| !item.is_empty());
    Ok(lines.map(|(index, item)| (item, format!("{name}:{}", index + 1))).collect())
}

/// The items of `text`.
pub fn parse(text: &str) -> Vec<String> {
    each_line(text).into_iter().filter(|item| !item.is_empty()).collect()
}

/// What is on each line of `text`. A `#` starts a comment at the line's beginning or after a blank.
fn each_line(text: &str) -> Vec<String> {
    let item = |line: &str| {
        let end = line
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|at| *at == 0 || line[..*at].ends_with([' ', '\t']));
        line[..end.unwrap_or(line.len())].trim().to_owned()
    };
    text.lines().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_items_but_a_hash_inside_one_is() {
        let text = "# what a node needs\n\nsystemd  # init\n\tlibvirt-daemon\nsheaf.colour=#fff\n";
        assert_eq!(parse(text), ["systemd", "libvirt-daemon", "sheaf.colour=#fff"]);
    }
}
