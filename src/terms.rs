//! The terms of a release (which nodes may take it, and until when), as people read them.
//!
//! Why here: `sheaf inspect` prints them and `sheaf diff` compares them, by the same names and words.
//! Route in: `terms` of a verified manifest. Route out: name and value of each, in the names of the manifest. Pure.

use sheaf_config::manifest::Terms;
use sheaf_config::time::rfc3339;
use std::collections::BTreeMap;

/// The width of the longest name.
const NAMES: usize = "kubernetes".len();

/// Every term by its name in the manifest; one that is not set has a value too, so that setting it is a change.
pub fn named(terms: &Terms) -> BTreeMap<String, String> {
    let Terms { expires, channel, floor, min_from, state, kubernetes } = terms;
    let or = |value: &Option<String>, absent: &str| value.clone().unwrap_or_else(|| absent.to_owned());
    let (oldest, newest) = state.reads;
    let reads = if oldest == newest { oldest.to_string() } else { format!("{oldest} to {newest}") };
    let all = [
        ("expires", expires.map_or_else(|| "never".to_owned(), rfc3339)),
        ("channel", or(channel, "none")),
        ("floor", or(floor, "none")),
        ("min_from", or(min_from, "any version")),
        ("state", format!("writes format {}, reads {reads}", state.writes)),
        ("kubernetes", or(kubernetes, "not named")),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

/// All of them, a line each.
pub fn render(terms: &Terms) -> String {
    let line = |(name, value): (String, String)| format!("  {name:<NAMES$} {value}\n");
    format!("\nterms\n{}", named(terms).into_iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::manifest::StateFormat;

    #[test]
    fn a_release_without_terms_is_for_every_node_and_says_so() {
        assert_eq!(
            render(&Terms::default()),
            "\nterms\n  channel    none\n  expires    never\n  floor      none\n  kubernetes not named\n  \
             min_from   any version\n  state      writes format 1, reads 1\n"
        );
    }

    #[test]
    fn every_term_is_printed_with_its_time_in_utc() {
        let terms = Terms {
            expires: Some(1_600_000_000),
            channel: Some("stable".into()),
            floor: Some("0.1.0".into()),
            min_from: Some("0.0.9".into()),
            state: StateFormat { writes: 2, reads: (1, 2) },
            kubernetes: Some("1.37.2".into()),
        };
        assert_eq!(
            render(&terms),
            "\nterms\n  channel    stable\n  expires    2020-09-13T12:26:40Z\n  floor      0.1.0\n  kubernetes 1.37.2\n  \
             min_from   0.0.9\n  state      writes format 2, reads 1 to 2\n"
        );
    }
}
