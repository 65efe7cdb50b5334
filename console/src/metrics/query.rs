//! What plots are asked for: `machine=shop/web`, `node=n1` or `cluster`, and `span=hour` or `day`. Pure.

use std::fmt;

use crate::answer::Refusal;

/// Of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// All nodes together.
    Cluster,
    /// A node.
    Node(String),
    /// A machine.
    Machine {
        /// Its namespace.
        project: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Machine { project, name } => write!(f, "machine {project}/{name}"),
        }
    }
}

/// How much of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last hour.
    Hour,
    /// The last day.
    Day,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Of what.
    pub of: Of,
    /// How much of it.
    pub span: Span,
}

const WHOSE: &str = "say whose numbers: ?machine=PROJECT/NAME, ?node=NAME or ?cluster";

impl Query {
    /// The question in a query, if it is one.
    pub fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let (mut of, mut span) = (None, Span::Hour);
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let asked = match (key, value) {
                ("cluster", "" | "true") => Of::Cluster,
                ("node", name) if is_name(name) => Of::Node(name.to_owned()),
                ("machine", path) => {
                    let (project, name) = path
                        .split_once('/')
                        .filter(|(project, name)| is_name(project) && is_name(name))
                        .ok_or_else(|| Refusal::bad_request("a machine is named PROJECT/NAME"))?;
                    Of::Machine { project: project.to_owned(), name: name.to_owned() }
                }
                ("span", "hour") => continue,
                ("span", "day") => {
                    span = Span::Day;
                    continue;
                }
                ("span", _) => return Err(Refusal::bad_request("span is hour or day")),
                _ => return Err(Refusal::bad_request(WHOSE)),
            };
            if of.replace(asked).is_some() {
                return Err(Refusal::bad_request("ask for one machine, one node or the cluster at a time"));
            }
        }
        Ok(Self { of: of.ok_or_else(|| Refusal::bad_request(WHOSE))?, span })
    }
}

/// Whether a text can be a name of Kubernetes' (RFC 1123): nothing is escaped in it.
fn is_name(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_asked_for_and_a_span() {
        let asked = |query: &str| Query::parse(Some(query)).unwrap();
        let web = Of::Machine { project: "shop".into(), name: "web".into() };
        assert_eq!(asked("machine=shop/web"), Query { of: web.clone(), span: Span::Hour });
        assert_eq!(asked("span=day&machine=shop/web"), Query { of: web, span: Span::Day });
        assert_eq!(asked("node=n1.example&span=hour").of, Of::Node("n1.example".into()));
        assert_eq!(asked("cluster").of, Of::Cluster);
    }

    #[test]
    fn what_is_no_question_is_refused_with_the_reason() {
        let refused = |query: &str| Query::parse(Some(query)).unwrap_err().message;
        for query in ["", "span=day", "node=", "node=../x", "pod=x"] {
            assert_eq!(refused(query), WHOSE, "{query}");
        }
        for query in ["machine=web", "machine=shop/", "machine=shop/web/x", "machine=shop/%2e"] {
            assert_eq!(refused(query), "a machine is named PROJECT/NAME", "{query}");
        }
        assert_eq!(refused("cluster&span=week"), "span is hour or day");
        assert_eq!(refused("cluster&node=n1"), "ask for one machine, one node or the cluster at a time");
        assert_eq!(Query::parse(None).unwrap_err().code, 400);
    }
}
