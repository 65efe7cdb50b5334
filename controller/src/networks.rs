//! What the networks of an instance mean: read from their NetworkAttachmentDefinitions when its Pod is made.
//!
//! Why here: a node cannot read the definitions and must not have to trust anyone who wrote them; the Pod carries what
//! they meant, and a definition that changes later takes effect at the next start. [`resolve`] is pure. Route in: the
//! instance. Route out: [`Networks`] for the Pod, or why there are none, for people to read.

use std::{collections::BTreeMap, net::IpAddr};

use kube::{Api, Client};
use sheaf_api::{
    NetworkAttachmentDefinition, VirtualMachineInstance,
    devices::Interface,
    names::{
        ADDRESSES_ANNOTATION, MASQUERADE_BRIDGE, POD_NETWORK_BRIDGE, RESOURCE_NAME_ANNOTATION, SHARED_LABEL,
        SHARED_NAMESPACE, TRUE,
    },
    network::{self, Attachment, ConfigError, Function},
    vmi::VirtualMachineInstanceSpec,
};

use crate::{
    macs,
    object::{RequestError, doing},
    resolve::resolve as with_defaults,
};

/// What the networks of an instance mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks {
    /// Bridges and VLANs of its `multus` networks, by the network's name.
    pub attachments: BTreeMap<String, Attachment>,
    /// Virtual functions of its other `multus` networks, by the network's name.
    pub functions: BTreeMap<String, Function>,
    /// Addresses that an interface alone may use, by its name.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
}

/// Why an instance cannot be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Definitions by namespace and name; those that do not exist are missing.
pub type Definitions = BTreeMap<(String, String), NetworkAttachmentDefinition>;

/// Reads what `vmi` refers to, resolves it, and reserves its MACs in `macs`.
pub async fn of(
    client: &Client,
    vmi: &VirtualMachineInstance,
    macs: &macs::Index,
) -> Result<Result<Networks, Unresolved>, RequestError> {
    let networks = resolve(vmi, &definitions(client, vmi).await?);
    Ok(networks.and_then(|networks| macs.reserve(vmi).map(|()| networks)))
}

/// The same of interfaces that are added while the VM runs, each by itself: what is wrong with one keeps no other away.
pub async fn of_added(
    client: &Client,
    vmi: &VirtualMachineInstance,
    macs: &macs::Index,
    names: &[String],
) -> Result<BTreeMap<String, Result<Networks, Unresolved>>, RequestError> {
    let mut all = BTreeMap::new();
    for name in names {
        let mut only = vmi.clone();
        only.spec.networks.retain(|network| network.name == *name);
        let networks = resolve(&only, &definitions(client, &only).await?);
        // The interfaces are what addresses are checked against.
        only.spec.domain.devices.interfaces.retain(|interface| interface.name == *name);
        all.insert(name.clone(), networks.and_then(|networks| macs.reserve(&only).map(|()| networks)));
    }
    Ok(all)
}

/// Reads the definitions that `vmi` refers to.
async fn definitions(client: &Client, vmi: &VirtualMachineInstance) -> Result<Definitions, RequestError> {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let mut definitions = Definitions::new();
    for network in vmi.spec.networks.iter().filter_map(|network| network.multus.as_ref()) {
        let (namespace, name) = network.place(namespace);
        let api: Api<NetworkAttachmentDefinition> = Api::namespaced(client.clone(), namespace);
        let read = api.get_opt(name).await.map_err(doing("reading its NetworkAttachmentDefinition"))?;
        definitions.extend(read.map(|definition| ((namespace.to_owned(), name.to_owned()), definition)));
    }
    Ok(definitions)
}

/// What the networks of `vmi` mean.
pub fn resolve(vmi: &VirtualMachineInstance, definitions: &Definitions) -> Result<Networks, Unresolved> {
    let own = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let (mut attachments, mut functions) = (BTreeMap::new(), BTreeMap::new());
    for network in &vmi.spec.networks {
        let Some(multus) = &network.multus else { continue };
        if vmi.spec.interface(&network.name).is_some_and(Interface::is_absent) {
            continue;
        }
        let (namespace, name) = multus.place(own);
        let definition = definitions.get(&(namespace.to_owned(), name.to_owned())).ok_or_else(|| Unresolved {
            reason: "NetworkNotFound",
            message: format!(
                "network {}: there is no NetworkAttachmentDefinition {namespace}/{name}; create it, or correct networkName",
                network.name
            ),
        })?;
        if !is_shared_with(own, namespace, definition) {
            return Err(Unresolved {
                reason: "NetworkNotShared",
                message: format!(
                    "network {}: NetworkAttachmentDefinition {namespace}/{name} is only for VMs of namespace {namespace}; an administrator may label it {SHARED_LABEL}={TRUE}, or make one in {own}",
                    network.name
                ),
            });
        }
        let invalid = |error: ConfigError| Unresolved {
            reason: "NetworkInvalid",
            message: format!(
                "network {}: NetworkAttachmentDefinition {namespace}/{name}: {error}",
                network.name
            ),
        };
        let config = &definition.spec.config;
        if vmi.spec.interface(&network.name).is_some_and(|interface| interface.sriov.is_some()) {
            let annotations = definition.metadata.annotations.as_ref();
            let resource = annotations.and_then(|all| all.get(RESOURCE_NAME_ANNOTATION));
            let function = network::parse_function(config, resource.map(String::as_str)).map_err(invalid)?;
            functions.insert(network.name.clone(), function);
        } else {
            attachments.insert(network.name.clone(), network::parse(config).map_err(invalid)?);
        }
    }
    Ok(Networks { attachments, functions, addresses: addresses(vmi)? })
}

/// Whether VMs of namespace `own` may use `definition` of `namespace`: who may make VMs in one namespace has no say over the
/// networks of another.
fn is_shared_with(own: &str, namespace: &str, definition: &NetworkAttachmentDefinition) -> bool {
    let label = definition.metadata.labels.as_ref().and_then(|labels| labels.get(SHARED_LABEL));
    namespace == own || namespace == SHARED_NAMESPACE || label.is_some_and(|value| value == TRUE)
}

/// The annotation that says which addresses an interface alone may use.
fn addresses(vmi: &VirtualMachineInstance) -> Result<BTreeMap<String, Vec<IpAddr>>, Unresolved> {
    let annotation = vmi.metadata.annotations.as_ref().and_then(|all| all.get(ADDRESSES_ANNOTATION));
    let Some(text) = annotation else { return Ok(BTreeMap::new()) };
    let wrong = |why: String| Unresolved {
        reason: "AddressesInvalid",
        message: format!("annotation {ADDRESSES_ANNOTATION}: {why}; write {{\"lan\": [\"192.0.2.10\"]}}"),
    };
    let addresses: BTreeMap<String, Vec<IpAddr>> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let spec = with_defaults(&vmi.spec, vmi.metadata.uid.as_deref().unwrap_or_default());
    let known =
        |name: &String| spec.domain.devices.interfaces.iter().find(|interface| interface.name == *name);
    for (name, addresses) in &addresses {
        match known(name) {
            None => return Err(wrong(format!("the VM has no interface {name}"))),
            Some(interface) if interface.masquerade.is_some() => {
                return Err(wrong(format!(
                    "interface {name} has masquerade, whose addresses its node gives"
                )));
            }
            Some(interface) if interface.sriov.is_some() => {
                return Err(wrong(format!("interface {name} has sriov, whose frames its node does not see")));
            }
            Some(_) if addresses.is_empty() || addresses.len() > 16 => {
                return Err(wrong(format!(
                    "interface {name} has {} addresses, not 1 to 16",
                    addresses.len()
                )));
            }
            Some(_) => {}
        }
    }
    Ok(addresses)
}

/// Bridge of an interface, and whether it must know VLANs; none without a network.
pub fn port<'a>(
    spec: &VirtualMachineInstanceSpec,
    networks: &'a Networks,
    interface: &Interface,
) -> Option<(&'a str, bool)> {
    let network = spec.network(&interface.name)?;
    if network.multus.is_some() {
        let attachment = networks.attachments.get(&interface.name)?;
        return Some((&attachment.bridge, attachment.has_vlans()));
    }
    network.pod.as_ref()?;
    Some((if interface.masquerade.is_some() { MASQUERADE_BRIDGE } else { POD_NETWORK_BRIDGE }, false))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sheaf_api::network::NetworkAttachmentDefinitionSpec;

    use super::*;

    fn vmi(network_name: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
            "spec": {
                "domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [{"name": "lan", "bridge": {}}]}},
                "networks": [{"name": "lan", "multus": {"networkName": network_name}}],
            },
        }))
        .unwrap()
    }

    fn defined(namespace: &str, name: &str, config: &str) -> Definitions {
        let spec = NetworkAttachmentDefinitionSpec { config: config.into() };
        [((namespace.to_owned(), name.to_owned()), NetworkAttachmentDefinition::new(name, spec))].into()
    }

    const VLAN_100: &str = r#"{"cniVersion":"0.3.1","type":"bridge","bridge":"br1","vlan":100}"#;

    #[test]
    fn a_name_without_namespace_is_in_the_vms_own() {
        let networks = resolve(&vmi("lan100"), &defined("shop", "lan100", VLAN_100)).unwrap();
        assert_eq!(networks.attachments["lan"].vlan, Some(100));
        let other = resolve(&vmi("default/lan100"), &defined("default", "lan100", VLAN_100)).unwrap();
        assert_eq!(other, networks);
    }

    #[test]
    fn a_definition_of_another_namespace_is_used_only_when_it_is_shared() {
        let mut definitions = defined("bank", "lan100", VLAN_100);
        let refused = resolve(&vmi("bank/lan100"), &definitions).unwrap_err();
        assert_eq!(refused.reason, "NetworkNotShared");
        assert_eq!(
            refused.message,
            "network lan: NetworkAttachmentDefinition bank/lan100 is only for VMs of namespace bank; an administrator may \
             label it sheaf.dev/shared=true, or make one in shop"
        );
        for (value, shared) in [("false", false), ("", false), ("true", true)] {
            let definition = definitions.values_mut().next().unwrap();
            definition.metadata.labels = Some([(SHARED_LABEL.to_owned(), value.to_owned())].into());
            assert_eq!(resolve(&vmi("bank/lan100"), &definitions).is_ok(), shared, "{value:?}");
        }
    }

    #[test]
    fn what_does_not_exist_or_cannot_be_used_is_named() {
        let missing = resolve(&vmi("lan100"), &defined("net", "lan100", VLAN_100)).unwrap_err();
        assert_eq!(missing.reason, "NetworkNotFound");
        assert_eq!(
            missing.message,
            "network lan: there is no NetworkAttachmentDefinition shop/lan100; create it, or correct networkName"
        );
        let bad = resolve(
            &vmi("default/x"),
            &defined("default", "x", r#"{"type":"bridge","bridge":"br1","mtu":9000}"#),
        );
        assert_eq!(
            bad.unwrap_err().message,
            "network lan: NetworkAttachmentDefinition default/x: mtu: not supported by Sheaf; remove it"
        );
    }

    #[test]
    fn an_interface_with_sriov_gets_a_function_of_the_resource_that_its_network_names() {
        let mut vmi = vmi("fast");
        vmi.spec.domain.devices.interfaces[0].bridge = None;
        vmi.spec.domain.devices.interfaces[0].sriov = Some(sheaf_api::devices::Sriov {});
        let mut definitions = defined("shop", "fast", r#"{"type":"sriov","vlan":100}"#);
        let missing = resolve(&vmi, &definitions).unwrap_err();
        assert_eq!(
            missing.message,
            "network lan: NetworkAttachmentDefinition shop/fast: annotation k8s.v1.cni.cncf.io/resourceName: is missing; \
             set it to a resourceName of permittedHostDevices"
        );
        let annotation = (RESOURCE_NAME_ANNOTATION.to_owned(), "intel.com/x710_vf".to_owned());
        definitions.values_mut().for_each(|one| one.metadata.annotations = Some([annotation.clone()].into()));
        let networks = resolve(&vmi, &definitions).unwrap();
        assert_eq!(networks.attachments, BTreeMap::new());
        let function = Function { resource_name: "intel.com/x710_vf".into(), vlan: Some(100) };
        assert_eq!(networks.functions, [("lan".to_owned(), function)].into());
    }

    #[test]
    fn addresses_are_of_an_interface_that_there_is() {
        let with = |text: &str| {
            let mut vmi = vmi("lan100");
            vmi.metadata.annotations = Some([(ADDRESSES_ANNOTATION.to_owned(), text.to_owned())].into());
            resolve(&vmi, &defined("shop", "lan100", VLAN_100))
        };
        let addresses = with(r#"{"lan":["192.0.2.10","2001:db8::10"]}"#).unwrap().addresses;
        assert_eq!(
            addresses["lan"],
            ["192.0.2.10".parse::<IpAddr>().unwrap(), "2001:db8::10".parse().unwrap()]
        );
        let said = |text: &str| with(text).unwrap_err().message;
        assert_eq!(
            said(r#"{"wan":["192.0.2.10"]}"#),
            "annotation sheaf.dev/addresses: the VM has no interface wan; write {\"lan\": [\"192.0.2.10\"]}"
        );
        assert!(said(r#"{"lan":["192.0.2.300"]}"#).contains("invalid IP address syntax"));
        assert!(said(r#"{"lan":[]}"#).contains("interface lan has 0 addresses, not 1 to 16"));
    }
}
