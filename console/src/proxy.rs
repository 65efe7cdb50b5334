//! What a browser may ask the API server for: a path becomes one row of a table, or is refused.
//!
//! Why here: RBAC decides what a user may do; this decides what the console is for. Kinds that its pages do not have (Secrets to
//! read, Pods, roles, proxies to nodes beyond their logs) are no way to the API server even for an administrator's browser, so a script that gets into
//! the page finds less. A path is taken apart into plain words and put together again: no dots, no percent signs, no empty
//! parts, so what is checked is what is sent. Pure. Route in: method, path, query. Route out: a [`Target`].

use http::{HeaderMap, HeaderValue, Method, header};

use crate::{answer::Refusal, roles};

mod table;

use table::{Only, Row, Scope, Verb};

/// Before every path that is proxied.
pub const PREFIX: &str = "/api";
/// Longest path and query.
const LONGEST: usize = 4096;

/// Keys of a query that are handed on. Not `watch` and `follow` (streams without end), not `as`.
const KEYS: [&str; 20] = [
    "boot",
    "continue",
    "dryRun",
    "fieldManager",
    "fieldSelector",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "labelSelector",
    "limit",
    "moveCursor",
    "pattern",
    "preserveSession",
    "propagationPolicy",
    "query",
    "resourceVersion",
    "resourceVersionMatch",
    "sinceTime",
    "tailLines",
    "untilTime",
];
/// Types of what is sent.
const SENT: [&str; 5] = [
    "application/json",
    "application/yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];
/// Types of what is asked for.
const ASKED: [&str; 4] =
    ["application/json", "application/yaml", "image/png", "application/json;as=Table;v=v1;g=meta.k8s.io"];

/// Types of what is answered.
const ANSWERED: [&str; 5] =
    ["application/json", "application/yaml", "application/gzip", "image/png", "text/plain; charset=utf-8"];

/// A request that is proxied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// At the API server, with the query.
    pub path: String,
    /// It is a WebSocket.
    pub is_stream: bool,
}

/// What `method` on `path` (after [`PREFIX`]) is at the API server.
pub fn target(method: &Method, path: &str, query: Option<&str>) -> Result<Target, Refusal> {
    if path.len() + query.map_or(0, str::len) > LONGEST {
        return Err(Refusal::bad_request("the path is too long"));
    }
    let words: Vec<&str> = path.strip_prefix('/').unwrap_or_default().split('/').collect();
    if !words.iter().all(|word| is_plain(word)) {
        return Err(Refusal::bad_request(
            "a path has letters, digits, \"-\", \"_\", \".\" and \":\" between its slashes",
        ));
    }
    let none = || Refusal::not_found(format!("the console does not offer {method} {path}"));
    let (group, version, rest) = match words.as_slice() {
        ["api", "v1", rest @ ..] => ("", "v1", rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(none()),
    };
    // Namespaces themselves are a kind of the cluster.
    let (scope, namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
            if !is_name(namespace) {
                return Err(none());
            }
            (Scope::Namespace, *namespace, rest)
        }
        rest => (Scope::Cluster, "", rest),
    };
    let (kind, name, under) = match rest {
        [kind] => (*kind, None, None),
        [kind, name] => (*kind, Some(*name), None),
        [kind, name, under @ ..] => (*kind, Some(*name), Some(under.join("/"))),
        [] => return Err(none()),
    };
    let mut rows =
        table::ROWS.iter().filter(|row| (row.group, row.version, row.kind) == (group, version, kind));
    let row = rows.find(|row| row.under == under.as_deref()).ok_or_else(none)?;
    let verb = verb(method, name.is_some(), under.is_some()).ok_or_else(none)?;
    let is_meant = is_meant(row.only, namespace, name);
    if !row.verbs.contains(&verb) || !fits(row, scope, verb, name.is_some()) || !is_meant {
        return Err(none());
    }
    let is_stream = row.streams;
    let query = query.filter(|query| !query.is_empty()).map(self::query).transpose()?;
    let path = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Ok(Target { path, is_stream })
}

/// Every request that is handed on, as method and path of the console: of `name` in `project`, and of kinds of the cluster. For tests
/// that try each of them as somebody who may not.
pub fn offered(project: &str, name: &str) -> Vec<(Method, String)> {
    let mut all = Vec::new();
    for row in table::ROWS {
        let (project, name) = match row.only {
            Only::Object(its_namespace, its_name) => (its_namespace, its_name),
            Only::Any | Only::Projects => (project, name),
        };
        let root = match row.group {
            "" => format!("{PREFIX}/api/{}", row.version),
            group => format!("{PREFIX}/apis/{group}/{}", row.version),
        };
        let list = match row.scope {
            Scope::Namespace => format!("{root}/namespaces/{project}/{}", row.kind),
            Scope::Cluster => format!("{root}/{}", row.kind),
        };
        let one = format!("{list}/{}", if row.kind == "namespaces" { project } else { name });
        let part = format!("{one}/{}", row.under.unwrap_or_default());
        for verb in row.verbs {
            all.extend(match verb {
                Verb::Read => vec![(Method::GET, list.clone()), (Method::GET, one.clone())],
                Verb::Create => vec![(Method::POST, list.clone())],
                Verb::Change => vec![(Method::PUT, one.clone()), (Method::PATCH, one.clone())],
                Verb::Delete => vec![(Method::DELETE, one.clone())],
                Verb::Open => vec![(Method::GET, part.clone())],
                Verb::Act => vec![(Method::PUT, part.clone())],
            });
        }
    }
    all
}

/// What a method does; deletion of many at once is none.
fn verb(method: &Method, named: bool, under: bool) -> Option<Verb> {
    match (method.as_str(), named, under) {
        ("GET", _, false) => Some(Verb::Read),
        ("GET", _, true) => Some(Verb::Open),
        ("POST", false, false) => Some(Verb::Create),
        ("PUT" | "PATCH", true, false) => Some(Verb::Change),
        ("PUT", true, true) => Some(Verb::Act),
        ("DELETE", true, false) => Some(Verb::Delete),
        _ => None,
    }
}

/// Whether the scope of the path is the kind's. All namespaces at once may be listed.
fn fits(row: &Row, scope: Scope, verb: Verb, named: bool) -> bool {
    row.scope == scope || (row.scope == Scope::Namespace && verb == Verb::Read && !named)
}

/// Whether the row is about this object.
fn is_meant(only: Only, namespace: &str, name: Option<&str>) -> bool {
    match only {
        Only::Any => true,
        Only::Projects => !roles::is_reserved(namespace),
        Only::Object(in_namespace, called) => namespace == in_namespace && name == Some(called),
    }
}

/// A part of a path that means itself.
fn is_plain(word: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    !word.is_empty() && word.bytes().all(fits) && !word.bytes().all(|byte| byte == b'.')
}

/// A DNS label.
pub fn is_name(word: &str) -> bool {
    word.len() <= 63
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A DNS subdomain, as most objects are named.
pub fn is_subdomain(word: &str) -> bool {
    word.len() <= 253 && word.split('.').all(|label| !label.is_empty() && is_name(label))
}

/// The query, if all of its keys are known.
fn query(query: &str) -> Result<&str, Refusal> {
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !KEYS.contains(&key) {
            return Err(Refusal::bad_request(format!("the console does not hand on {key:?} of a query")));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:~%+,!()*/=".contains(&byte);
        if !value.bytes().all(fits) {
            return Err(Refusal::bad_request(format!("the value of {key} must be percent-encoded")));
        }
    }
    Ok(query)
}

/// The type of an answer, if the page asks for such: what a node answers must not become a page or a script of this origin.
pub fn answered(headers: &HeaderMap) -> HeaderValue {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let known = ANSWERED.into_iter().find(|known| known.split(';').next() == Some(kind));
    HeaderValue::from_static(known.unwrap_or("application/octet-stream"))
}

/// The headers that are handed on.
pub fn headers(from: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    let text = |name| from.get(&name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(kind) = text(header::CONTENT_TYPE) {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let known = SENT.into_iter().find(|known| *known == kind);
        let known =
            known.ok_or_else(|| Refusal::bad_request(format!("the console does not send {kind:?}")))?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(known));
    }
    let asked = text(header::ACCEPT).and_then(|kind| ASKED.into_iter().find(|known| *known == kind));
    headers.insert(header::ACCEPT, HeaderValue::from_static(asked.unwrap_or(ASKED[0])));
    Ok(headers)
}

#[cfg(test)]
mod tests;
