//! Whatever is done to a file, nothing panics, hangs or gives a secret away, and what is accepted can be written.
//!
//! Route in: examples, bad files and files of other installers, changed at random by their bytes, lines and words. Route
//! out: [`sheaf_fuzz`].

use crate::golden;
use sheaf_config::convert::{From, convert};
use sheaf_config::load::parse_config_file;
use sheaf_config::node::Identity;
use sheaf_fuzz::{Random, fuzz};
use std::path::Path;

/// What files are made of: whole ones to start from, lines and words to put in.
struct Corpus {
    files: Vec<(Option<From>, String)>,
    lines: Vec<String>,
    words: Vec<String>,
}

impl Corpus {
    fn load() -> Self {
        let mut files = Vec::new();
        for path in golden::files("examples").into_iter().chain(golden::files("tests/bad")) {
            // Some bad files are no text at all.
            files.extend(std::fs::read_to_string(path).ok().map(|text| (None, text)));
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert");
        let mut others: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        others.sort();
        for path in others {
            let from = match path.extension().and_then(|end| end.to_str()) {
                Some("yaml") => From::Harvester,
                Some("answer") => From::Proxmox,
                _ => continue,
            };
            files.push((Some(from), std::fs::read_to_string(path).unwrap()));
        }
        let mut lines: Vec<String> =
            files.iter().flat_map(|(_, text)| text.lines().map(str::to_owned)).collect();
        lines.sort();
        lines.dedup();
        let splits = |c: char| c.is_whitespace() || "=\"'[]{},".contains(c);
        let mut words: Vec<String> = lines
            .iter()
            .flat_map(|line| line.split(splits).filter(|word| !word.is_empty()).map(str::to_owned))
            .collect();
        words.extend(
            [
                "[[",
                "]]",
                "\"\"\"",
                "'''",
                "{",
                "}",
                ",",
                "\\u0000",
                "1e400",
                "inf",
                "nan",
                "0x7fffffffffffffff",
                "-9223372036854775808",
                "1979-05-27T07:32:00Z",
                "é",
                "\u{202e}",
                "\u{1f600}",
                "::1",
                "/0",
                "{mac:99}",
                "&a",
                "*a",
                "<<",
            ]
            .map(String::from),
        );
        words.sort();
        words.dedup();
        Self { files, lines, words }
    }

    /// A file after some changes.
    fn input(&self, random: &mut Random) -> (Option<From>, String) {
        let (from, text) = random.of(&self.files);
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=random.below(6) {
            self.change(&mut bytes, random);
        }
        bytes.truncate(1 << 16);
        (*from, String::from_utf8_lossy(&bytes).into_owned())
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(40)).min(bytes.len());
        match random.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.truncate(at),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 | 5 => drop(bytes.splice(at..at, random.of(&self.words).bytes())),
            6 => self.lines(bytes, random, |lines, random, corpus| {
                let at = random.below(lines.len() + 1);
                lines.insert(at, random.of(&corpus.lines).clone());
            }),
            7 => self.lines(bytes, random, |lines, random, _| {
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                lines.swap(a, b);
            }),
            8 => self.lines(bytes, random, |lines, random, _| {
                let (from, to) = (random.below(lines.len()), random.below(lines.len() + 1));
                lines.insert(to, lines[from].clone());
            }),
            // A word for a word: values of other keys, keys of other tables.
            _ => self.lines(bytes, random, |lines, random, corpus| {
                let line = random.below(lines.len());
                let old = lines[line].clone();
                let words: Vec<_> = old.split([' ', '"', '=']).filter(|word| !word.is_empty()).collect();
                if !words.is_empty() {
                    let new: &String = random.of(&corpus.words);
                    lines[line] = old.replacen(words[random.below(words.len())], new, 1);
                }
            }),
        }
    }

    fn lines(
        &self,
        bytes: &mut Vec<u8>,
        random: &mut Random,
        change: impl FnOnce(&mut Vec<String>, &mut Random, &Self),
    ) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if !lines.is_empty() {
            change(&mut lines, random, self);
        }
        *bytes = (lines.join("\n") + "\n").into_bytes();
    }
}

/// Reads `text` in every way there is; panics where a promise is broken. True: it was accepted.
fn promises_hold(from: Option<From>, text: &str) -> bool {
    let text = match from {
        None => text.to_owned(),
        Some(from) => match convert(from, "other", text) {
            // Notes name keys, and a key can be anything; values they never name.
            Ok(converted) => converted.toml,
            Err(errors) => {
                assert!(!errors.to_string().is_empty());
                return false;
            }
        },
    };
    let file = match parse_config_file("node.toml", &text) {
        Ok(file) => file,
        Err(errors) => {
            let last = text.split('\n').count();
            for problem in &errors.problems {
                assert!(problem.line.is_none_or(|line| (1..=last).contains(&line)), "{problem:?}");
                assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
            }
            return false;
        }
    };
    let machine = Identity {
        serial: Some("CZJ 0210/A1B".into()),
        uuid: Some("4c4c4544-0034-4a10-8052-b4c04f4d4e32".into()),
        macs: vec!["52:54:00:12:34:56".into()],
    };
    let _ = file.for_machine(&machine);
    for entry in file.entries() {
        let config = &entry.config;
        let webhooks = config.install.iter().flat_map(|install| &install.webhooks);
        let of_webhooks = webhooks
            .flat_map(|hook| hook.bearer.iter().chain(hook.basic.iter().map(|basic| &basic.password)));
        let token = config.cluster.iter().filter_map(|cluster| cluster.token.as_ref());
        let shown = format!("{config:?}{}", config.to_masked_toml().unwrap());
        for secret in token.chain(&config.system.password_hash).chain(of_webhooks) {
            // One that also stands elsewhere in the file is none (names are read in lowercase letters), and short ones are
            // part of other words.
            let (text, word) = (text.to_lowercase(), secret.reveal().to_lowercase());
            // Nor is the name of a table, which the writer writes.
            let is_name = word.chars().all(|c| c.is_ascii_lowercase() || ".-".contains(c));
            let is_one = word.len() > 9 && !is_name && text.matches(&word).count() == 1;
            assert!(!is_one || !shown.contains(secret.reveal()), "shows a secret: {shown}");
        }
        let written = entry.config.to_toml().unwrap();
        let again = sheaf_config::load::parse_node_config("written.toml", &written);
        assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{written}")), entry.config);
    }
    true
}

#[test]
fn random_changes_break_no_promise() {
    let corpus = Corpus::load();
    fuzz("node.toml and files of other installers", |random| {
        let (from, text) = corpus.input(random);
        promises_hold(from, &text)
    });
}
