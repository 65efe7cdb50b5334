//! The label selector of a kind that keeps replicas: its schema, and the rules that tie it to the template.
//!
//! Why here: replica sets and pools have the same, a ClusterUpdate has its schema, and the API server must be able to bound
//! the cost of their rules. Route in: `spec.selector` of a manifest. Route out: [`of`], by which replicas are told from what
//! was relabelled.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::crd::rule::{Reason, Rule};

/// The schema of a selector, with bounds.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "type": "object",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "properties": {
                        "key": {"type": "string", "minLength": 1, "maxLength": 317},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {
                            "type": "array",
                            "maxItems": 16,
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                    "required": ["key", "operator"],
                },
            },
        },
    })
}

/// The selector, as labels are compared with it. None if an expression lacks its values, which the API server refuses.
pub fn of(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector.clone()).ok()
}

/// Of a selector: the operators that need values have some.
pub(crate) const VALUES: &str = "!has(self.matchExpressions) || self.matchExpressions.all(e, \
     (e.operator in ['In', 'NotIn']) == (has(e.values) && size(e.values) > 0))";
/// What [`VALUES`] says.
pub(crate) const VALUES_SAYS: &str = "In and NotIn need values; Exists and DoesNotExist have none";

/// The rules of a spec whose template is the field `$template`.
macro_rules! rules {
    ($template:literal) => {
        &[
            $crate::crd::rule::Rule {
                at: "selector",
                rule: "self == oldSelf",
                says: "a selector cannot be changed; create another object",
                field: "",
                reason: $crate::crd::rule::Reason::Forbidden,
            },
            $crate::crd::rule::Rule {
                at: "selector",
                rule: "has(self.matchLabels) && size(self.matchLabels) > 0 || \
                       has(self.matchExpressions) && size(self.matchExpressions) > 0",
                says: "an empty selector matches everything; name a label of the template",
                field: "",
                reason: $crate::crd::rule::Reason::Required,
            },
            $crate::crd::rule::Rule {
                at: "selector",
                rule: $crate::selector::VALUES,
                says: $crate::selector::VALUES_SAYS,
                field: ".matchExpressions",
                reason: $crate::crd::rule::Reason::Invalid,
            },
            $crate::crd::rule::Rule {
                at: "",
                rule: concat!(
                    "(!has(self.selector.matchLabels) || self.selector.matchLabels.all(k, has(self.",
                    $template,
                    ".metadata) && has(self.",
                    $template,
                    ".metadata.labels) && k in self.",
                    $template,
                    ".metadata.labels && self.",
                    $template,
                    ".metadata.labels[k] == self.selector.matchLabels[k])) && \
                     (!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, has(self.",
                    $template,
                    ".metadata) && has(self.",
                    $template,
                    ".metadata.labels) && e.key in self.",
                    $template,
                    ".metadata.labels ? e.operator == 'Exists' || has(e.values) && \
                     (e.operator == 'In') == (self.",
                    $template,
                    ".metadata.labels[e.key] in e.values) && e.operator != 'DoesNotExist' : \
                     e.operator in ['NotIn', 'DoesNotExist']))"
                ),
                says: "the selector does not match the labels of the template; give the template those labels",
                field: ".selector",
                reason: $crate::crd::rule::Reason::Invalid,
            },
        ]
    };
}
pub(crate) use rules;

/// Of the spec of an instance that is one of several: what all of them would share.
pub(crate) const REPLICA: &[Rule] = &[
    Rule {
        at: "domain",
        rule: "!has(self.firmware) || !has(self.firmware.uuid)",
        says: "all replicas would have one UUID; remove it, and each has its own",
        field: ".firmware.uuid",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.devices",
        rule: "!has(self.interfaces) || self.interfaces.all(i, !has(i.macAddress))",
        says: "all replicas would have one MAC address; remove macAddress, and each has its own",
        field: ".interfaces",
        reason: Reason::Forbidden,
    },
];

#[cfg(test)]
mod tests {
    use kube::core::SelectorExt;

    use super::*;

    fn selector(text: &str) -> Option<Selector> {
        of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn labels_and_expressions_must_all_match() {
        let read = selector(
            r#"{"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}"#,
        );
        let read = read.unwrap();
        let labels = |tier: &str| [("app".into(), "web".into()), ("tier".into(), tier.into())].into();
        assert!(read.matches(&labels("a")));
        assert!(!read.matches(&labels("c")));
        assert_eq!(read.to_string(), "app=web,tier in (a,b)");
    }

    #[test]
    fn an_expression_without_its_values_is_no_selector() {
        assert_eq!(selector(r#"{"matchExpressions": [{"key": "tier", "operator": "In"}]}"#), None);
    }
}
