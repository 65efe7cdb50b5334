//! What is wrong with a file, said so that an operator can fix it: file, line, key, reason, remedy.
//!
//! Why here: every TOML file of Sheaf is refused in the same words, and with all of its mistakes at once.
//! Route in: a [`Report`] collects problems while a file is read. Route out: [`Errors`], one problem a line:
//! `node.toml:14: network.bridge[0].mtu: 20 is too small; write 1280 to 9216`.

pub use sheaf_links::did_you_mean;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// How many problems are printed: a file of another kind has thousands, and nobody reads past two screens.
const SHOWN: usize = 50;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line it stands in, from 1; none when the file as a whole is meant.
    pub line: Option<usize>,
    /// The key, `network.bridge[0].ports`.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
}

/// All mistakes of one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// The file as the caller named it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Errors {
    /// A file that is refused as a whole.
    pub fn whole_file(file: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let problem = Problem { line: None, path: "file".into(), what: what.into(), remedy: remedy.into() };
        Self { file: file.to_owned(), problems: vec![problem] }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
            let Problem { path, what, remedy, .. } = problem;
            write!(f, "{separator}{}{line}: {path}: {what}; {remedy}", self.file)?;
        }
        match self.problems.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more; fix these first", self.file),
        }
    }
}

impl std::error::Error for Errors {}

/// Collects the problems of one text. Shared by reference: readers of any part add to it.
#[derive(Debug)]
pub struct Report<'t> {
    file: String,
    text: &'t str,
    /// Where each line begins: a hopeless file has as many problems as lines.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    /// Where paths begin with something else than the top of the file.
    part: RefCell<Option<Part>>,
}

/// A part of the text that was laid over another one: its problems are named by where they stand.
#[derive(Debug)]
struct Part {
    /// `node[3]`
    prefix: String,
    /// Where its keys and values begin.
    starts: BTreeSet<usize>,
}

impl<'t> Report<'t> {
    /// A report on `text`, which messages call `file`.
    pub fn new(file: &str, text: &'t str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { file: file.to_owned(), text, lines, problems: RefCell::default(), part: RefCell::default() }
    }

    /// The name of the file, without its folder.
    pub fn file_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or_default()
    }

    /// The text reported on.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Adds a problem with what stands at `span`.
    pub fn add(&self, span: &Range<usize>, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let line = Some(self.line(span.start));
        let path = match &*self.part.borrow() {
            Some(part) if part.starts.contains(&span.start) => format!("{}.{path}", part.prefix),
            _ => path.to_owned(),
        };
        let problem = Problem { line, path, what: what.into(), remedy: remedy.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// Runs `read`; problems with what begins at one of `starts` are named below `prefix` meanwhile.
    pub fn inside<T>(&self, prefix: String, starts: BTreeSet<usize>, read: impl FnOnce() -> T) -> T {
        self.part.replace(Some(Part { prefix, starts }));
        let value = read();
        self.part.replace(None);
        value
    }

    /// The line, from 1, in which the byte at `offset` stands.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// The byte at which `line`, from 1, begins.
    pub fn start(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// The column, from 1 and in characters, of the byte at `offset`.
    pub fn column(&self, offset: usize) -> usize {
        let start = self.lines[self.line(offset) - 1];
        let bytes = self.text.as_bytes().get(start..offset).unwrap_or_default();
        1 + String::from_utf8_lossy(bytes).chars().count()
    }

    /// Whether nothing was found so far.
    pub fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// `value` when nothing was found; otherwise everything that was. A reader that found nothing yet has no
    /// value has a hole, which is named as such instead of a panic.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Errors> {
        let mut problems = self.problems.into_inner();
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ if problems.is_empty() => {
                Err(Errors::whole_file(&self.file, "could not be parsed", "please report this file"))
            }
            _ => {
                problems.sort();
                problems.dedup();
                Err(Errors { file: self.file, problems })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let known = ["hostname", "min-size", "dns", "ntp", "bridge"];
        assert_eq!(did_you_mean("hostnaem", known), Some("hostname"));
        assert_eq!(did_you_mean("min_size", known), Some("min-size"));
        assert_eq!(did_you_mean("bridges", known), Some("bridge"));
        assert_eq!(did_you_mean("Hostname", known), Some("hostname"));
        assert_eq!(did_you_mean("timezone", known), None);
        assert_eq!(did_you_mean("dhp", ["ntp"]), None);
    }

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let report = Report::new("f", "a = 1\nü = 2\n");
        assert_eq!((report.line(0), report.column(0)), (1, 1));
        assert_eq!((report.line(9), report.column(9)), (2, 3));
        assert_eq!(report.line(9999), 3);
    }

    #[test]
    fn problems_come_in_the_order_of_the_lines_and_never_without_end() {
        let text = "\n".repeat(100);
        let report = Report::new("node.toml", &text);
        for line in (0..100).rev() {
            report.add(&(line..line), "key", "is wrong", "fix it");
        }
        let printed = report.finish::<()>(None).unwrap_err().to_string();
        assert!(printed.starts_with("node.toml:1: key: is wrong; fix it\nnode.toml:2: "), "{printed}");
        assert!(printed.ends_with("\nnode.toml: and 50 more; fix these first"), "{printed}");
    }
}
