//! What a node may say of itself in its Node object.
//!
//! Why here: a node writes its own Node, and others act on it: the API server connects to its addresses, the approver
//! compares serving certificates with them, the controllers note things in its annotations. NodeRestriction looks at
//! labels and taints alone. Two policies, because one with a parameter does not apply while the parameter is missing.
//! Route in: nothing; the record of addresses ([`crate::nodes::addresses`]) as the parameter. Route out: the
//! ValidatingAdmissionPolicies [`SHAPE`] and [`OWNERS`].

use serde_json::{Value, json};
use sheaf_api::names::{ADDRESSES_MAP, SYSTEM_NAMESPACE};

use super::{by_a_node, refusing, writes};

/// Name of the policy about what an address may be, and about annotations.
pub const SHAPE: &str = "sheaf-node-status";
/// Name of the policy about whose an address is.
pub const OWNERS: &str = "sheaf-node-addresses";

/// Most addresses a node may have: two families on a dozen links.
const MOST_ADDRESSES: u32 = 32;

/// Writes by nodes to Nodes.
fn policy(name: &str, more: Value) -> Value {
    let mut policy = refusing(name, &[writes(&["CREATE", "UPDATE"], "", &["nodes", "nodes/status"])], more);
    policy["spec"]["matchConditions"] = by_a_node();
    policy
}

/// The addresses in a request that may change them; an update of labels carries the old ones and is not judged by them.
fn addresses() -> Value {
    json!({"name": "addresses", "expression":
        "request.operation == 'CREATE' || request.?subResource.orValue('') == 'status' ? \
         object.?status.?addresses.orValue([]) : []"})
}

/// The policy about shapes.
pub fn shape() -> Value {
    let annotations = |object: &str| {
        format!(
            "{object}.metadata.?annotations.orValue({{}}).transformMapEntry(k, v, k.startsWith('sheaf.dev/'), {{k: v}})"
        )
    };
    policy(
        SHAPE,
        json!({
            "variables": [
                addresses(),
                {"name": "ips", "expression": "variables.addresses.filter(a, a.type in ['InternalIP', 'ExternalIP'])"},
                {"name": "notes", "expression": annotations("object")},
                {"name": "before", "expression":
                    format!("request.operation == 'UPDATE' ? {} : {{}}", annotations("oldObject"))},
            ],
            "validations": [
                {
                    "expression": format!("variables.addresses.size() <= {MOST_ADDRESSES}"),
                    "message": format!("a node has at most {MOST_ADDRESSES} addresses"),
                    "reason": "Forbidden",
                },
                {
                    "expression": "variables.addresses.all(a, a.type in ['InternalIP', 'ExternalIP', 'Hostname'])",
                    "message": "a node may report only addresses of the types InternalIP, ExternalIP and Hostname",
                    "reason": "Forbidden",
                },
                {
                    "expression": "variables.addresses.all(a, a.type != 'Hostname' || a.address == object.metadata.name)",
                    "message": "a node's Hostname is its own name",
                    "reason": "Forbidden",
                },
                {
                    // One way to write an address, so that two are compared as text.
                    "expression": "variables.ips.all(a, isIP(a.address) && ip.isCanonical(a.address))",
                    "message": "an InternalIP or ExternalIP is an IP address as RFC 5952 writes it",
                    "reason": "Forbidden",
                },
                {
                    "expression": "variables.ips.all(a, !ip(a.address).isLoopback() && !ip(a.address).isUnspecified() && \
                                   !ip(a.address).isLinkLocalUnicast() && !ip(a.address).isLinkLocalMulticast() && \
                                   ip(a.address).isGlobalUnicast())",
                    "message": "a node reports no loopback, link-local, multicast or unspecified address",
                    "reason": "Forbidden",
                },
                {
                    "expression": "variables.notes == variables.before",
                    "message": "annotations under sheaf.dev/ of a Node are for the controller and for administrators",
                    "reason": "Forbidden",
                },
            ],
        }),
    )
}

/// The policy about owners.
pub fn owners() -> Value {
    let mine = "(!(a.address.replace(':', '_') in params.data) || \
                params.data[a.address.replace(':', '_')] == object.metadata.name)";
    policy(
        OWNERS,
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "variables": [
                addresses(),
                {"name": "ips", "expression": "variables.addresses.filter(a, isIP(a.address))"},
                {"name": "services", "expression":
                    "params.?data['services'].orValue('').split(',').filter(range, isCIDR(range))"},
                {"name": "foreign", "expression": format!("variables.ips.filter(a, has(params.data) && !{mine})")},
            ],
            "validations": [
                {
                    "expression": "variables.foreign.size() == 0",
                    "messageExpression": "variables.foreign[0].address + ' is an address of ' + \
                        (params.data[variables.foreign[0].address.replace(':', '_')] == '(API server)' ? \
                         'the API server' : \
                         'Node ' + params.data[variables.foreign[0].address.replace(':', '_')])",
                    "message": "an address of another Node or of the API server",
                    "reason": "Forbidden",
                },
                {
                    "expression": "variables.ips.all(a, variables.services.all(range, !cidr(range).containsIP(a.address)))",
                    "message": "the address is in the network of Services",
                    "reason": "Forbidden",
                },
            ],
        }),
    )
}

/// The record that [`owners`] reads. While it is missing nothing is known of addresses, and serving certificates wait.
pub fn parameter() -> Value {
    json!({"name": ADDRESSES_MAP, "namespace": SYSTEM_NAMESPACE, "parameterNotFoundAction": "Allow"})
}
