//! What a NetworkAttachmentDefinition may not say, and who may name which bridge and VLAN, refused where it is made.
//!
//! Why here: CEL reads no JSON, but it can name the fields of a text that has no escapes and no field twice; what it cannot
//! see, the reader of the definition ([`sheaf_api::network::parse`]) says in the condition of the VM that uses it, in the
//! same words. Bridges and VLANs are an administrator's to give: by a right, or by an annotation of the namespace. Route in:
//! nothing. Route out: a ValidatingAdmissionPolicy.

use serde_json::{Value, json};
use sheaf_api::names::{ALLOWED_NETWORKS_ANNOTATION, RESOURCE_NAME_ANNOTATION, SHARED_LABEL, TRUE};

use super::{refusing, writes};

/// Verb on NetworkAttachmentDefinitions: name any bridge and VLAN, and share them. Administrators of the cluster have it.
const ANY_NETWORK: &str = "any-network";

/// Name of the policy.
pub const NAME: &str = "sheaf-networks";

/// Fields of virtual functions alone.
const OF_FUNCTIONS: [&str; 2] = ["spoofchk", "trust"];

/// Every field that may be there of bridges, those inside `vlanTrunk` included.
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
    refusing(
        NAME,
        &[writes(&["CREATE", "UPDATE"], "k8s.cni.cncf.io", &["network-attachment-definitions"])],
        json!({
            "variables": [
                {"name": "fields", "expression":
                    r#"object.spec.config.findAll(r'"[^"]*"\s*:').map(f, f.replace('"', '').replace(':', '').trim())"#},
                {"name": "isFunction", "expression": matches(r#""type"\s*:\s*"sriov""#)},
                {"name": "unknown", "expression": format!(
                    "variables.fields.filter(f, !(f in {FIELDS:?}) && !(variables.isFunction && f in {OF_FUNCTIONS:?}))"
                )},
                {"name": "otherwise", "expression":
                    format!(r#"object.spec.config.findAll(r'{OTHERWISE}').map(f, f.split(':')[0].replace('"', '').trim())"#)},
                {"name": "any", "expression": format!(
                    "authorizer.group('k8s.cni.cncf.io').resource('network-attachment-definitions')\
                     .namespace(object.metadata.namespace).check('{ANY_NETWORK}').allowed()"
                )},
                {"name": "bridge", "expression":
                    r#"object.spec.config.find(r'"bridge"\s*:\s*"[^"]*"').split('"').size() > 3 ?
                       object.spec.config.find(r'"bridge"\s*:\s*"[^"]*"').split('"')[3] : ''"#},
                {"name": "vlan", "expression":
                    r#"int('0' + object.spec.config.find(r'"vlan"\s*:\s*[0-9]{1,4}').find('[0-9]*$'))"#},
                {"name": "allowed", "expression": format!(
                    "has(namespaceObject.metadata.annotations) && \
                     '{ALLOWED_NETWORKS_ANNOTATION}' in namespaceObject.metadata.annotations ? \
                     namespaceObject.metadata.annotations['{ALLOWED_NETWORKS_ANNOTATION}'].split(' ') : []"
                )},
                // The VLANs of entries for this bridge, `100` or `100-199`.
                {"name": "ranges", "expression":
                    "variables.allowed.filter(e, e.matches('^[^:]*:[0-9]{1,4}(-[0-9]{1,4})?$') && \
                     e.split(':')[0] == variables.bridge).map(e, e.split(':')[1].split('-'))"},
                {"name": "isAllowed", "expression":
                    "!('vlanTrunk' in variables.fields) && (variables.vlan == 0 ? variables.bridge in variables.allowed : \
                     variables.ranges.exists(r, int(r[0]) <= variables.vlan && variables.vlan <= int(r[r.size() - 1])))"},
                {"name": "resource", "expression": resource("object")},
                {"name": "resourceBefore", "expression": format!("oldObject == null ? '' : {}", resource("oldObject"))},
                {"name": "isShared", "expression": is_shared("object")},
                {"name": "wasShared", "expression": format!("oldObject != null && {}", is_shared("oldObject"))},
            ],
            "validations": [
                says(
                    r"!object.spec.config.contains('\\')".into(),
                    r"spec.config has an escape (\); write it without",
                ),
                says(
                    matches(r"^\s*\{(?s:.*)\}\s*$"),
                    r#"spec.config is not an object; write {"type": "bridge", "bridge": "br0"}"#,
                ),
                says(
                    "!('plugins' in variables.fields)".into(),
                    "plugins: a list of plugins is not supported; write the one of type bridge by itself",
                ),
                says(
                    format!("variables.isFunction || {}", matches(r#""type"\s*:\s*"bridge""#)),
                    r#"type: Sheaf runs no CNI plugin; write "type": "bridge", or "sriov" for interfaces with sriov"#,
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
                    "['type', 'bridge', 'vlan', 'vlanTrunk'].all(n, variables.fields.filter(f, f == n).size() <= 1)".into(),
                    "spec.config has a field twice; remove one",
                ),
                says(
                    format!(
                        "variables.isFunction || {}",
                        matches(r#""bridge"\s*:\s*"[A-Za-z0-9]([A-Za-z0-9._-]{0,13}[A-Za-z0-9])?""#)
                    ),
                    "bridge: name a bridge of the nodes (letters, digits, - _ ., at most 15)",
                ),
                says(
                    format!("!{}", matches(r#""bridge"\s*:\s*"masq0""#)),
                    "bridge: masq0 is reserved by the nodes; give the interface masquerade: {} on network pod",
                ),
                says(
                    format!("!('vlan' in variables.fields) || {}", matches(&format!(r"{vlan}(0|null|{id})\s*[,}}]"))),
                    "vlan: use a number from 1 to 4094",
                ),
                says(
                    format!("!('vlanTrunk' in variables.fields) || !{}", matches(&format!("{vlan}[1-9]"))),
                    "vlanTrunk: a port has one VLAN or a trunk; remove vlan or vlanTrunk",
                ),
                names(
                    "variables.any || !variables.isFunction && variables.isAllowed || \
                     (oldObject != null && oldObject.spec.config == object.spec.config && variables.resource == variables.resourceBefore)",
                    format!(
                        "variables.isFunction ? 'only an administrator makes a definition of the type sriov' : 'bridge ' + variables.bridge + ('vlanTrunk' in variables.fields ? ' with a trunk' : \
                         variables.vlan == 0 ? ' without VLAN' : ' with VLAN ' + string(variables.vlan)) + \
                         ' is not allowed in namespace ' + object.metadata.namespace + '; ask an administrator to add it \
                         to the annotation {ALLOWED_NETWORKS_ANNOTATION} of the namespace, or to make the definition'"
                    ),
                ),
                says(
                    "variables.any || !variables.isShared || variables.wasShared".into(),
                    "only an administrator shares a network with other namespaces; remove the label sheaf.dev/shared",
                ),
            ],
        }),
    )
}

/// The resource of virtual functions, or nothing.
fn resource(object: &str) -> String {
    format!(
        "has({object}.metadata.annotations) && '{RESOURCE_NAME_ANNOTATION}' in {object}.metadata.annotations ? \
         {object}.metadata.annotations['{RESOURCE_NAME_ANNOTATION}'] : ''"
    )
}

fn is_shared(object: &str) -> String {
    format!(
        "has({object}.metadata.labels) && '{SHARED_LABEL}' in {object}.metadata.labels && \
         {object}.metadata.labels['{SHARED_LABEL}'] == '{TRUE}'"
    )
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
        let function = r#"{"cniVersion":"0.3.1","name":"n","type":"sriov","vlan":0,"ipam":{},"spoofchk":"on","trust":"off"}"#;
        sheaf_api::network::parse_function(function, Some("a/b")).unwrap();
    }
}
