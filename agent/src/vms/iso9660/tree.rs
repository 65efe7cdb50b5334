//! Files by their paths, as the folders that an image has.
//!
//! Why here: path tables list folders level by level, and folders list what is in them by name; both orders are made once.
//! Pure. Route in: paths. Route out: [`Tree`].

use std::collections::BTreeMap;

/// Most UTF-16 units of a name in Joliet: what Windows reads.
const JOLIET_NAME: usize = 103;

/// Folders and files.
pub struct Tree {
    /// Folders, level by level; the root is the first.
    pub folders: Vec<Folder>,
}

/// A folder.
pub struct Folder {
    /// Its name in Joliet.
    pub joliet: Vec<u8>,
    /// Number of the folder that it is in; the root is in itself.
    pub parent: usize,
    /// What is in it, in the order of Joliet's names.
    pub entries: Vec<Entry>,
}

/// A file or folder in a folder.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its name in Joliet, in UTF-16: what is too long for it ends with a number.
    pub joliet: Vec<u8>,
    /// What it is.
    pub item: Item,
}

/// A folder or file by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Item {
    Folder(usize),
    File(usize),
}

impl Tree {
    /// The tree of `paths`; a file has the number of its path.
    pub fn of<'a>(paths: impl Iterator<Item = &'a String>) -> Self {
        let root = Folder { joliet: vec![0], parent: 0, entries: Vec::new() };
        let mut folders = vec![root];
        // What is below each folder that is not listed yet: rests of paths, and numbers of files.
        let mut below: Vec<Vec<(&str, usize)>> =
            vec![paths.enumerate().map(|(n, path)| (path.as_str(), n)).collect()];
        let mut number = 0;
        while let Some(rests) = below.get(number).cloned() {
            let mut files = Vec::new();
            let mut inner: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
            for (rest, file) in rests {
                match rest.split_once('/') {
                    Some((name, rest)) => inner.entry(name).or_default().push((rest, file)),
                    None => files.push((rest, file)),
                }
            }
            let files = files.into_iter().map(|(name, file)| (name, file, None));
            let inner = inner.into_iter().map(|(name, rests)| (name, rests[0].1, Some(rests)));
            let mut found: Vec<_> = files
                .chain(inner)
                .map(|(name, file, rests)| (joliet(name, file), name, file, rests))
                .collect();
            found.sort();
            for (joliet, name, file, rests) in found {
                let item = match rests {
                    None => Item::File(file),
                    Some(rests) => {
                        folders.push(Folder { joliet: joliet.clone(), parent: number, entries: Vec::new() });
                        below.push(rests);
                        Item::Folder(folders.len() - 1)
                    }
                };
                folders[number].entries.push(Entry { name: name.to_owned(), joliet, item });
            }
            number += 1;
        }
        Self { folders }
    }
}

/// `name` in Joliet. What is too long is cut, and told from others by `number`.
fn joliet(name: &str, number: usize) -> Vec<u8> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if units.len() > JOLIET_NAME {
        let end: Vec<u16> = format!("~{number}").encode_utf16().collect();
        units.truncate(JOLIET_NAME - end.len());
        units.extend(end);
    }
    units.into_iter().flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        Tree::of(paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>().iter())
    }

    #[test]
    fn folders_come_level_by_level_and_names_in_order() {
        let tree = tree(&["openstack/latest/user_data", "openstack/latest/meta_data.json", "a", "ec2/x"]);
        let names: Vec<Vec<&str>> = tree
            .folders
            .iter()
            .map(|folder| folder.entries.iter().map(|entry| entry.name.as_str()).collect())
            .collect();
        assert_eq!(
            names,
            [vec!["a", "ec2", "openstack"], vec!["x"], vec!["latest"], vec!["meta_data.json", "user_data"]]
        );
        let parents: Vec<usize> = tree.folders.iter().map(|folder| folder.parent).collect();
        assert_eq!(parents, [0, 0, 0, 2]);
        assert_eq!(tree.folders[3].entries[0].item, Item::File(1));
    }

    #[test]
    fn names_that_are_too_long_for_joliet_stay_different() {
        let long = "k".repeat(250);
        let tree = tree(&[&format!("{long}.a"), &format!("{long}.b"), "short"]);
        let joliet: Vec<&Vec<u8>> = tree.folders[0].entries.iter().map(|entry| &entry.joliet).collect();
        assert_ne!(joliet[0], joliet[1]);
        assert!(joliet.iter().all(|name| name.len() <= 2 * JOLIET_NAME));
    }
}
