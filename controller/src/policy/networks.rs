//! What a NetworkAttachmentDefinition may not say, refused where it is made.
//!
//! Why here: CEL reads no JSON, but it can name the fields of a text; what it cannot see, the reader of the definition
//! ([`sheaf_api::network::parse`]) says in the condition of the VM that uses it, in the same words. Route in: nothing.
//! Route out: a ValidatingAdmissionPolicy.

use serde_json::{Value, json};

/// Name of the policy.
pub const NAME: &str = "sheaf-networks";

/// Every field that may be there, those inside `vlanTrunk` included.
const FIELDS: [&str; 18] = [
    "cniVersion",
    "name",
    "type",
    "bridge",
    "vlan",
    "vlanTrunk",
    "id",
    "minID",
    "maxID",
    "ipam",
    "macspoofchk",
    "disableContainerInterface",
    "preserveDefaultVlan",
    "isGateway",
    "isDefaultGateway",
    "ipMasq",
    "hairpinMode",
    "promiscMode",
];

/// Fields whose only value is what is so anyway, with the other value.
const OTHERWISE: &str = r#""(macspoofchk|disableContainerInterface)"\s*:\s*false|"(preserveDefaultVlan|isGateway|isDefaultGateway|ipMasq|hairpinMode|promiscMode)"\s*:\s*true"#;

/// The policy.
pub fn policy() -> Value {
    let matches = |pattern: &str| format!("object.spec.config.matches(r'{pattern}')");
    let says = |expression: String, message: &str| json!({"expression": expression, "message": message});
    let names = |expression: &str, message: String| json!({"expression": expression, "message": "a field is not supported", "messageExpression": message});
    let vlan = r#""vlan"\s*:\s*"#;
    let id = r"([1-9]|[1-9][0-9]|[1-9][0-9][0-9]|[1-3][0-9][0-9][0-9]|40[0-8][0-9]|409[0-4])";
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["k8s.cni.cncf.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["network-attachment-definitions"],
            }]},
            "variables": [
                {"name": "fields", "expression":
                    r#"object.spec.config.findAll(r'"[^"]*"\s*:').map(f, f.replace('"', '').replace(':', '').trim())"#},
                {"name": "unknown", "expression": format!("variables.fields.filter(f, !(f in {FIELDS:?}))")},
                {"name": "otherwise", "expression":
                    format!(r#"object.spec.config.findAll(r'{OTHERWISE}').map(f, f.split(':')[0].replace('"', '').trim())"#)},
            ],
            "validations": [
                says(
                    matches(r"^\s*\{(?s:.*)\}\s*$"),
                    r#"spec.config is not an object; write {"type": "bridge", "bridge": "br0"}"#,
                ),
                says(
                    "!('plugins' in variables.fields)".into(),
                    "plugins: a list of plugins is not supported; write the one of type bridge by itself",
                ),
                says(
                    matches(r#""type"\s*:\s*"bridge""#),
                    r#"type: Sheaf runs no CNI plugin; write "type": "bridge""#,
                ),
                says(
                    format!("!{}", matches(r#""ipam"\s*:\s*\{\s*""#)),
                    "ipam: not supported by Sheaf; remove it",
                ),
                names(
                    "variables.unknown.size() == 0",
                    "variables.unknown.join(', ') + ': not supported by Sheaf; remove it'".into(),
                ),
                names(
                    "variables.otherwise.size() == 0",
                    "variables.otherwise.join(', ') + ': not supported by Sheaf; remove it'".into(),
                ),
                says(
                    matches(r#""bridge"\s*:\s*"[A-Za-z0-9]([A-Za-z0-9._-]{0,13}[A-Za-z0-9])?""#),
                    "bridge: name a bridge of the nodes (letters, digits, - _ ., at most 15)",
                ),
                says(
                    format!("!{}", matches(r#""bridge"\s*:\s*"masq0""#)),
                    "bridge: masq0 is the nodes' own; give the interface masquerade: {} on network pod",
                ),
                says(
                    format!("!('vlan' in variables.fields) || {}", matches(&format!(r"{vlan}(0|null|{id})\s*[,}}]"))),
                    "vlan: use a number from 1 to 4094",
                ),
                says(
                    format!("!('vlanTrunk' in variables.fields) || !{}", matches(&format!("{vlan}[1-9]"))),
                    "vlanTrunk: a port has one VLAN or a trunk; remove vlan or vlanTrunk",
                ),
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_the_reader_honours_may_be_there() {
        let config = r#"{"cniVersion":"0.3.1","name":"n","type":"bridge","bridge":"br0","vlan":0,"vlanTrunk":
            [{"id":1},{"minID":2,"maxID":3}],"ipam":{},"macspoofchk":true,"disableContainerInterface":true,
            "preserveDefaultVlan":false,"isGateway":false,"isDefaultGateway":false,"ipMasq":false,"hairpinMode":false,
            "promiscMode":false}"#;
        sheaf_api::network::parse(config).unwrap();
        let written =
            config.split('"').skip(1).step_by(2).filter(|word| config.contains(&format!("\"{word}\":")));
        let mut written: Vec<_> = written.collect();
        let mut fields = FIELDS.to_vec();
        written.sort_unstable();
        written.dedup(); // the type, too, is called bridge
        fields.sort_unstable();
        assert_eq!(written, fields);
    }
}
