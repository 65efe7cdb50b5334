//! Rules take any value.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_links_are_judged_without_a_panic_and_each_problem_names_a_link_that_is_there(links in any::links()) {
        // Rules between links meet any value, too: nothing may depend on the values' own having passed.
        let mut found = Found::default();
        tree::check(&links, &mut found);
        addresses::check(&links, &mut found);
        for problem in found.problems.into_iter().chain(rules(&links)) {
            for place in [problem.at, problem.other].into_iter().flatten() {
                let is_there = |link: LinkRef<'_>| link.kind() == place.kind && link.index == place.index;
                prop_assert!(links.all().any(is_there), "{place:?}");
            }
            prop_assert!(!problem.what.is_empty() && !problem.remedy.is_empty());
        }
    }
}

#[test]
fn values_that_only_json_can_hold_are_refused_as_node_toml_refuses_them() {
    let text = r#"{"nics":[{"name":"lo","mtu":99}],"vlans":[{"name":"v","id":0,"parent":"a:b"}],
        "bridges":[{"name":"br0","addresses":["192.0.2.0/24","0.0.0.0/0"],"routes":[{"to":"0.0.0.0/0","metric":0}]}]}"#;
    let links: Links = serde_json::from_str(text).unwrap();
    let keys: Vec<_> = rules(&links).into_iter().filter_map(|problem| Some(problem.at?.key)).collect();
    let expected =
        ["name", "mtu", "id", "parent", "addresses[0]", "addresses[1]", "routes[0].to", "routes[0].metric"];
    assert_eq!(keys, expected);
}
