//! Debian's control format: paragraphs of `Key: value` lines, as dpkg's status and apt's indexes have them.
//!
//! Route in: text. Route out: one [`Paragraph`] for each package; lines that continue a value are not kept.

use std::collections::BTreeMap;

/// The fields of one package, first lines only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph<'t>(BTreeMap<&'t str, &'t str>);

impl<'t> Paragraph<'t> {
    /// The value of `key`; empty when it is not there.
    pub fn get(&self, key: &str) -> &'t str {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// The packages that `key` (`Depends`, `Provides`) names, alternatives one after the other, without versions.
    pub fn names(&self, key: &str) -> impl Iterator<Item = &'t str> {
        let name = |part: &'t str| part.trim().split([' ', '(', ':']).next().unwrap_or_default();
        self.get(key).split([',', '|']).map(name).filter(|name| !name.is_empty())
    }
}

/// The paragraphs of `text`.
pub fn parse(text: &str) -> Vec<Paragraph<'_>> {
    let mut paragraphs = Vec::new();
    let mut fields = BTreeMap::new();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            if !fields.is_empty() {
                paragraphs.push(Paragraph(std::mem::take(&mut fields)));
            }
        } else if let (false, Some((key, value))) = (line.starts_with([' ', '\t']), line.split_once(':')) {
            fields.insert(key, value.trim());
        }
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_have_the_first_line_of_each_field_and_dependencies_have_names() {
        let text = "Package: a\nDepends: libc6 (>= 2.38), b:any | c\nDescription: of a\n it has\n more lines\n\n\n\
                    Package: d\nVersion: 1:2\n";
        let both = parse(text);
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].names("Depends").collect::<Vec<_>>(), ["libc6", "b", "c"]);
        assert_eq!((both[0].get("Description"), both[1].get("Version")), ("of a", "1:2"));
        assert_eq!(both[1].get("Depends"), "");
    }
}
