//! The files of a root, as the stage `root` listed them, and the units among them.
//!
//! Route in: `files.txt` of a release: SHA-256, kind, mode, bytes, path and where a link leads, between tabs.
//! Route out: [`Entry`] by path; the state of each systemd unit.

use serde::Serialize;
use std::collections::BTreeMap;

/// The list, in a release folder.
pub const FILE: &str = "files.txt";

/// Where units come from, and where what they are made of is switched.
const UNITS: [&str; 2] = ["/usr/lib/systemd/system/", "/etc/systemd/system/"];
/// What units are called.
const ENDINGS: [&str; 8] =
    [".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice", ".automount"];
/// Folders of links to the units that a unit starts.
const PULLS: [&str; 2] = [".wants", ".requires"];

/// One file of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// `f` of a file, `d` of a folder, `l` of a link.
    pub kind: char,
    /// Rights, octal.
    pub mode: String,
    /// Bytes of a file.
    pub bytes: u64,
    /// SHA-256 of a file, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Reads the list; none: `text` is not one.
pub fn parse(text: &str) -> Option<BTreeMap<String, Entry>> {
    let entry = |line: &str| {
        let [sum, kind, mode, bytes, path, target] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let entry = Entry {
            kind: kind.chars().next()?,
            mode: mode.to_owned(),
            bytes: bytes.parse().ok()?,
            sha256: (sum != "-").then(|| sum.to_owned()),
            target: (!target.is_empty()).then(|| target.to_owned()),
        };
        Some((path.to_owned(), entry))
    };
    text.lines().map(entry).collect()
}

/// What becomes of each unit at boot: `masked`, `started by multi-user.target`, or `not started by itself`.
pub fn units(files: &BTreeMap<String, Entry>) -> BTreeMap<String, String> {
    let mut units = BTreeMap::new();
    let below = || {
        files.iter().filter_map(|(path, entry)| {
            Some((UNITS.iter().find_map(|folder| path.strip_prefix(folder))?, entry))
        })
    };
    for (name, entry) in below().filter(|(name, _)| is_unit(name)) {
        let masked = entry.target.as_deref() == Some("/dev/null");
        // Of both folders, /etc decides, and it comes first.
        let state = if masked { "masked" } else { "not started by itself" };
        units.entry(name.to_owned()).or_insert_with(|| state.to_owned());
    }
    for (path, _) in below() {
        let Some((folder, name)) = path.split_once('/') else { continue };
        let by = PULLS.iter().find_map(|ending| folder.strip_suffix(ending));
        if let (Some(by), Some(state)) = (by, units.get_mut(name))
            && state != "masked"
        {
            *state = match state.strip_prefix("started by ") {
                Some(others) if others.split(", ").all(|other| other != by) => {
                    format!("started by {others}, {by}")
                }
                Some(_) => continue,
                None => format!("started by {by}"),
            };
        }
    }
    units
}

fn is_unit(name: &str) -> bool {
    !name.contains('/') && ENDINGS.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_masked_or_started_by_others_or_left_alone() {
        let list = "aa\tf\t644\t10\t/usr/lib/systemd/system/sheaf-agent.service\t\n\
                    aa\tf\t644\t10\t/usr/lib/systemd/system/ssh.socket\t\n\
                    aa\tf\t644\t10\t/usr/lib/systemd/system/etcd.service\t\n\
                    -\td\t755\t0\t/etc/systemd/system/multi-user.target.wants\t\n\
                    -\tl\t777\t0\t/etc/systemd/system/multi-user.target.wants/sheaf-agent.service\t/usr/lib/x\n\
                    -\tl\t777\t0\t/usr/lib/systemd/system/boot.target.wants/sheaf-agent.service\t../x\n\
                    -\tl\t777\t0\t/etc/systemd/system/ssh.socket\t/dev/null\n";
        let files = parse(list).unwrap();
        assert_eq!(files["/usr/lib/systemd/system/etcd.service"].sha256.as_deref(), Some("aa"));
        let units = units(&files);
        let expected = [
            ("etcd.service", "not started by itself"),
            ("sheaf-agent.service", "started by multi-user.target, boot.target"),
            ("ssh.socket", "masked"),
        ];
        assert_eq!(units, expected.map(|(name, state)| (name.to_owned(), state.to_owned())).into());
    }

    #[test]
    fn a_text_that_is_no_list_is_refused() {
        assert_eq!(parse("bash 5.2 bash\n"), None);
        assert_eq!(parse("aa\tf\t644\tmany\t/a\t\n"), None);
    }
}
