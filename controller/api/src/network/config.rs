//! Reads the `config` of a NetworkAttachmentDefinition.
//!
//! Why here: what it asks for is either done or refused by name, never dropped in silence. Pure. Route in: JSON text.
//! Route out: an [`Attachment`], or the first thing that stands in its way.

use serde_json::{Map, Value};

use super::{Attachment, Function, LAST_VLAN, VlanRange, is_link_name, is_resource_name};
use crate::names::{MASQUERADE_BRIDGE, RESOURCE_NAME_ANNOTATION};

/// Most entries of a trunk: more than there are is a mistake.
const TRUNK_MAX: usize = 256;

/// Why a config cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON.
    #[error("spec.config is not JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("spec.config is not an object; write {{\"type\": \"bridge\", \"bridge\": \"br0\"}}")]
    NotObject,
    /// A list of plugins.
    #[error("plugins: a list of plugins is not supported; write the one of type bridge by itself")]
    List,
    /// Another plugin.
    #[error(
        "type: {0} is not supported; Sheaf runs no CNI plugin: use bridge, or sriov for an interface with sriov"
    )]
    Type(String),
    /// The definition is of bridges, and the interface wants a function.
    #[error("type: {0} is not sriov, which an interface with sriov needs")]
    NotSriov(String),
    /// No resource, or one that cannot be.
    #[error("annotation {RESOURCE_NAME_ANNOTATION}: {0}; set it to a resourceName of permittedHostDevices")]
    Resource(String),
    /// Something is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field that would not be honoured.
    #[error("{0}: not supported by Sheaf; remove it")]
    Unsupported(String),
    /// A value that makes no sense.
    #[error("{field}: {why}")]
    Value {
        /// Which.
        field: String,
        /// Why.
        why: String,
    },
}

/// What `text` asks for, of a bridge.
pub fn parse(text: &str) -> Result<Attachment, ConfigError> {
    let config = object(text)?;
    let kind = config.get("type").ok_or(ConfigError::Missing("type"))?;
    if kind != "bridge" {
        return Err(ConfigError::Type(kind.to_string()));
    }
    for (name, value) in &config {
        known(name, value)?;
    }
    let bridge = config.get("bridge").ok_or(ConfigError::Missing("bridge"))?;
    let bridge = bridge.as_str().filter(|name| is_link_name(name)).ok_or_else(|| {
        wrong("bridge", format!("{bridge} is not a name of a link (letters, digits, - _ ., at most 15)"))
    })?;
    if bridge == MASQUERADE_BRIDGE {
        let why = format!(
            "{MASQUERADE_BRIDGE} is reserved by the nodes; give the interface masquerade: {{}} on network pod"
        );
        return Err(wrong("bridge", why));
    }
    let vlan = vlan(&config)?;
    let trunk = match config.get("vlanTrunk") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => trunk(value)?,
    };
    if vlan.is_some() && !trunk.is_empty() {
        return Err(wrong("vlanTrunk", "a port has one VLAN or a trunk; remove vlan or vlanTrunk"));
    }
    Ok(Attachment { bridge: bridge.to_owned(), vlan, trunk })
}

/// What `text` asks for, of the virtual functions that `resource` counts.
pub fn parse_function(text: &str, resource: Option<&str>) -> Result<Function, ConfigError> {
    let config = object(text)?;
    let kind = config.get("type").ok_or(ConfigError::Missing("type"))?;
    if kind != "sriov" {
        return Err(ConfigError::NotSriov(kind.to_string()));
    }
    for (name, value) in &config {
        let is_honoured = match name.as_str() {
            "type" | "vlan" => true,
            "cniVersion" | "name" => value.is_string(),
            "ipam" => value.as_object().is_some_and(Map::is_empty),
            // What the NIC does anyway.
            "spoofchk" => value == "on",
            "trust" => value == "off",
            _ => false,
        };
        if !is_honoured {
            return Err(ConfigError::Unsupported(name.clone()));
        }
    }
    let resource = resource.ok_or_else(|| ConfigError::Resource("is missing".into()))?;
    if !is_resource_name(resource) {
        return Err(ConfigError::Resource(format!("{resource:?} is not a name of a resource")));
    }
    Ok(Function { resource_name: resource.to_owned(), vlan: vlan(&config)? })
}

fn object(text: &str) -> Result<Map<String, Value>, ConfigError> {
    let value: Value = serde_json::from_str(text).map_err(|error| ConfigError::NotJson(error.to_string()))?;
    let Value::Object(config) = value else { return Err(ConfigError::NotObject) };
    match config.contains_key("plugins") {
        true => Err(ConfigError::List),
        false => Ok(config),
    }
}

fn vlan(config: &Map<String, Value>) -> Result<Option<u16>, ConfigError> {
    match config.get("vlan") {
        // CNI's default: no VLAN.
        None | Some(Value::Null) => Ok(None),
        Some(id) if id == 0 => Ok(None),
        Some(value) => vlan_id("vlan", value).map(Some),
    }
}

/// Refuses a field by name, unless it is one of ours or says what is so anyway.
fn known(name: &str, value: &Value) -> Result<(), ConfigError> {
    let honoured = match name {
        "type" | "bridge" | "vlan" | "vlanTrunk" => true,
        "cniVersion" | "name" => value.is_string(),
        // No addresses are handed out; the guest's MAC address is always checked; a VLAN port leaves VLAN 1; nobody
        // has a port of the node for himself.
        "ipam" => value.as_object().is_some_and(Map::is_empty),
        "macspoofchk" | "disableContainerInterface" => value == true,
        "preserveDefaultVlan"
        | "isGateway"
        | "isDefaultGateway"
        | "ipMasq"
        | "hairpinMode"
        | "promiscMode" => value == false,
        _ => false,
    };
    if honoured { Ok(()) } else { Err(ConfigError::Unsupported(name.to_owned())) }
}

fn trunk(value: &Value) -> Result<Vec<VlanRange>, ConfigError> {
    let entries = value
        .as_array()
        .filter(|entries| !entries.is_empty())
        .ok_or_else(|| wrong("vlanTrunk", "is a list of {\"id\": …} and {\"minID\": …, \"maxID\": …}"))?;
    if entries.len() > TRUNK_MAX {
        return Err(wrong("vlanTrunk", format!("has {} entries; at most {TRUNK_MAX}", entries.len())));
    }
    let mut ranges = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        ranges.push(range(&format!("vlanTrunk[{index}]"), entry)?);
    }
    ranges.sort();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[1].first <= pair[0].last) {
        return Err(wrong("vlanTrunk", format!("VLAN {} is listed twice", pair[1].first)));
    }
    Ok(ranges)
}

fn range(at: &str, entry: &Value) -> Result<VlanRange, ConfigError> {
    let fields = entry.as_object().ok_or_else(|| wrong(at, "is not an object"))?;
    if let Some(name) = fields.keys().find(|name| !["id", "minID", "maxID"].contains(&name.as_str())) {
        return Err(ConfigError::Unsupported(format!("{at}.{name}")));
    }
    let id = |name: &str| fields.get(name).map(|value| vlan_id(&format!("{at}.{name}"), value)).transpose();
    match (id("id")?, id("minID")?, id("maxID")?) {
        (Some(id), None, None) => Ok(VlanRange { first: id, last: id }),
        (None, Some(first), Some(last)) if first <= last => Ok(VlanRange { first, last }),
        (None, Some(first), Some(last)) => Err(wrong(at, format!("minID {first} is above maxID {last}"))),
        _ => Err(wrong(at, "has either id, or minID and maxID")),
    }
}

fn vlan_id(field: &str, value: &Value) -> Result<u16, ConfigError> {
    let id = value.as_u64().and_then(|id| u16::try_from(id).ok());
    id.filter(|id| (1..=LAST_VLAN).contains(id))
        .ok_or_else(|| wrong(field, format!("{value} is not a VLAN; use a number from 1 to {LAST_VLAN}")))
}

fn wrong(field: impl Into<String>, why: impl Into<String>) -> ConfigError {
    ConfigError::Value { field: field.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn access_trunk_and_untagged_are_what_they_say() {
        let access =
            parse(r#"{"cniVersion":"0.3.1","name":"lan","type":"bridge","bridge":"br1","vlan":100}"#)
                .unwrap();
        assert_eq!(access, Attachment { bridge: "br1".into(), vlan: Some(100), trunk: Vec::new() });
        let text = r#"{"type":"bridge","bridge":"br1","vlanTrunk":[{"minID":20,"maxID":29},{"id":10}]}"#;
        let ranges = [VlanRange { first: 10, last: 10 }, VlanRange { first: 20, last: 29 }];
        assert_eq!(parse(text).unwrap().trunk, ranges);
        let untagged = parse(r#"{"type":"bridge","bridge":"br0"}"#).unwrap();
        assert!(!untagged.has_vlans());
    }

    #[test]
    fn fields_that_say_what_is_so_anyway_are_taken() {
        let text = r#"{"type":"bridge","bridge":"br0","vlan":0,"ipam":{},"macspoofchk":true,"preserveDefaultVlan":false,
                      "disableContainerInterface":true,"isGateway":false}"#;
        assert!(!parse(text).unwrap().has_vlans());
    }

    #[test]
    fn what_would_not_be_honoured_is_refused_by_name() {
        let with = |field: &str| refused(&format!(r#"{{"type":"bridge","bridge":"br0",{field}}}"#));
        assert_eq!(with(r#""ipam":{"type":"host-local"}"#), "ipam: not supported by Sheaf; remove it");
        assert_eq!(with(r#""mtu":9000"#), "mtu: not supported by Sheaf; remove it");
        assert_eq!(with(r#""macspoofchk":false"#), "macspoofchk: not supported by Sheaf; remove it");
        assert_eq!(with(r#""ipMasq":true"#), "ipMasq: not supported by Sheaf; remove it");
        assert_eq!(with(r#""brigde":"br1""#), "brigde: not supported by Sheaf; remove it");
        assert_eq!(
            with(r#""vlanTrunk":[{"id":5,"pvid":true}]"#),
            "vlanTrunk[0].pvid: not supported by Sheaf; remove it"
        );
    }

    #[test]
    fn virtual_functions_are_those_of_the_annotations_resource() {
        let of = |text: &str, resource| parse_function(text, resource).map_err(|error| error.to_string());
        let vf = Some("intel.com/x710_vf");
        let function = |vlan| Ok(Function { resource_name: "intel.com/x710_vf".into(), vlan });
        assert_eq!(
            of(r#"{"cniVersion":"0.3.1","type":"sriov","vlan":100,"spoofchk":"on"}"#, vf),
            function(Some(100))
        );
        assert_eq!(of(r#"{"type":"sriov","vlan":0}"#, vf), function(None));
        let refused = |text: &str, resource| of(text, resource).unwrap_err();
        assert_eq!(
            refused(r#"{"type":"sriov"}"#, None),
            "annotation k8s.v1.cni.cncf.io/resourceName: is missing; set it to a resourceName of permittedHostDevices"
        );
        assert!(refused(r#"{"type":"sriov"}"#, Some("vf")).contains("\"vf\" is not a name of a resource"));
        assert_eq!(
            refused(r#"{"type":"sriov","trust":"on"}"#, vf),
            "trust: not supported by Sheaf; remove it"
        );
        let bridge = r#"{"type":"bridge","bridge":"br0"}"#;
        assert_eq!(refused(bridge, vf), "type: \"bridge\" is not sriov, which an interface with sriov needs");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert!(refused("{").starts_with("spec.config is not JSON: EOF while parsing an object at line 1"));
        assert!(refused("[]").starts_with("spec.config is not an object"));
        assert!(refused(r#"{"plugins":[]}"#).starts_with("plugins: a list of plugins is not supported"));
        assert_eq!(refused(r#"{"bridge":"br0"}"#), "type is missing");
        assert_eq!(refused(r#"{"type":"bridge"}"#), "bridge is missing");
        assert_eq!(
            refused(r#"{"type":"macvlan"}"#),
            "type: \"macvlan\" is not supported; Sheaf runs no CNI plugin: use bridge, or sriov for an interface with sriov"
        );
        assert!(
            refused(r#"{"type":"bridge","bridge":"br0; reboot"}"#)
                .starts_with("bridge: \"br0; reboot\" is not a name")
        );
        assert!(
            refused(r#"{"type":"bridge","bridge":"masq0"}"#)
                .starts_with("bridge: masq0 is reserved by the nodes")
        );
        let with = |field: &str| refused(&format!(r#"{{"type":"bridge","bridge":"br0",{field}}}"#));
        assert_eq!(with(r#""vlan":4095"#), "vlan: 4095 is not a VLAN; use a number from 1 to 4094");
        assert_eq!(with(r#""vlan":"7""#), "vlan: \"7\" is not a VLAN; use a number from 1 to 4094");
        assert_eq!(with(r#""vlan":65636"#), "vlan: 65636 is not a VLAN; use a number from 1 to 4094");
        assert_eq!(
            with(r#""vlan":1,"vlanTrunk":[{"id":2}]"#),
            "vlanTrunk: a port has one VLAN or a trunk; remove vlan or vlanTrunk"
        );
        assert_eq!(with(r#""vlanTrunk":[{"minID":9,"maxID":3}]"#), "vlanTrunk[0]: minID 9 is above maxID 3");
        assert_eq!(
            with(r#""vlanTrunk":[{"id":3},{"minID":9}]"#),
            "vlanTrunk[1]: has either id, or minID and maxID"
        );
        assert_eq!(
            with(r#""vlanTrunk":[{"id":3},{"minID":2,"maxID":5}]"#),
            "vlanTrunk: VLAN 3 is listed twice"
        );
        assert!(with(r#""vlanTrunk":[]"#).starts_with("vlanTrunk: is a list of"));
    }
}
