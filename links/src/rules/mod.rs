//! What is wrong with links, as values.
//!
//! Why here: node.toml and the links that policies lay over it obey the same rules. A [`Problem`] names a link and its
//! key; the loader of node.toml adds the line, the agent who asks for the link. Pure and total: any value is taken. Route
//! in: [`Links`]. Route out: [`Problem`]s.

mod addresses;
mod tree;
mod values;

#[cfg(test)]
pub(crate) mod any;

#[cfg(test)]
mod tests;

use crate::{Kind, LinkRef, Links};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; none for the links as a whole.
    pub at: Option<Place>,
    /// What is wrong there.
    pub what: String,
    /// Another place that it is about.
    pub other: Option<Place>,
    /// What to write instead.
    pub remedy: String,
}

/// A key of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What the link is.
    pub kind: Kind,
    /// Its place among those of its kind, from 0.
    pub index: usize,
    /// `mtu`, `ports[1]`, `routes[0].to`, in the spelling of node.toml; empty for the link as a whole.
    pub key: String,
}

/// Everything that is wrong with `links`. With values that are wrong by themselves nothing is said of how the links fit
/// together: it would mislead.
pub fn rules(links: &Links) -> Vec<Problem> {
    let mut found = Found::default();
    values::check(links, &mut found);
    if found.problems.is_empty() {
        tree::check(links, &mut found);
        addresses::check(links, &mut found);
    }
    found.problems
}

/// Collects problems.
#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, at: Option<Place>, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { at, what: what.into(), other: None, remedy: remedy.into() });
    }

    fn at(&mut self, link: LinkRef<'_>, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Some(place(link, key)), what, remedy);
    }

    /// The same of a problem about `other`, too.
    fn with(
        &mut self,
        link: LinkRef<'_>,
        key: &str,
        what: impl Into<String>,
        other: Place,
        remedy: impl Into<String>,
    ) {
        let (at, other) = (Some(place(link, key)), Some(other));
        self.problems.push(Problem { at, what: what.into(), other, remedy: remedy.into() });
    }
}

fn place(link: LinkRef<'_>, key: &str) -> Place {
    Place { kind: link.kind(), index: link.index, key: key.to_owned() }
}

/// `bond "bond0"`
fn called(link: LinkRef<'_>) -> String {
    format!("{} \"{}\"", link.kind().word(), link.name())
}
