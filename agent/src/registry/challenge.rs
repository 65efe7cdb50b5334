//! How a registry wants to be shown who asks: its answer to a request without credentials.
//!
//! Pure. Route in: a header `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3). Route out: basic authentication, or the URL that
//! gives a token (Docker's token authentication, <https://distribution.github.io/distribution/spec/auth/token/>).

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token.
    Bearer {
        /// Where it is given.
        realm: String,
        /// Name of the registry there.
        service: Option<String>,
        /// What the token is for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first scheme of `header` that is understood.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters(rest) {
            let place = match name.to_ascii_lowercase().as_str() {
                "realm" => &mut realm,
                "service" => &mut service,
                "scope" => &mut scope,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// `name=value` or `name="value"`, with commas between; stops at what is neither.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']);
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (mut value, mut end, mut is_escaped) = (String::new(), None, false);
                for (at, letter) in quoted.char_indices() {
                    match letter {
                        '\\' if !is_escaped => is_escaped = true,
                        '"' if !is_escaped => {
                            end = Some(at);
                            break;
                        }
                        _ => {
                            value.push(letter);
                            is_escaped = false;
                        }
                    }
                }
                let Some(end) = end else { break };
                (value, &quoted[end + 1..])
            }
            None => {
                let end = rest.find([',', ' ']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        all.push((name.to_owned(), value));
        text = rest;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn schemes_of_registries_are_understood() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull""#;
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let text = |text: &str| text.to_owned();
            Some(Challenge::Bearer { realm: text(realm), service: service.map(text), scope: scope.map(text) })
        };
        assert_eq!(
            Challenge::parse(docker),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/debian:pull")
            )
        );
        assert_eq!(
            Challenge::parse("bearer realm=https://a/t , service=\"a,\\\"b\""),
            bearer("https://a/t", Some("a,\"b"), None)
        );
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        for none in ["", "Negotiate", "Bearer", "Bearer service=\"a\"", "Bearer realm=\"a"] {
            assert_eq!(Challenge::parse(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_stops_the_agent(header in "\\PC{0,80}", rest in "[a-z=\",\\\\ ]{0,40}") {
            Challenge::parse(&header);
            Challenge::parse(&format!("Bearer {rest}"));
        }
    }
}
