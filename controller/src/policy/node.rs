//! What a node's agent may write of Sheaf's own kinds: what is about its own node, and no more.
//!
//! Why here: every node's certificate is in the group `system:nodes`; a node that fell into wrong hands must not report,
//! let alone order, anything about another (CVE-2023-26484 is what follows). The role opens kinds, one row each in
//! [`KINDS`]; the policy then asks of every write by a node that `spec.nodeName` is that node, and that the spec is left
//! to the subject of the row. Route in: the rows. Route out: ClusterRole `sheaf:node` with its binding and
//! ValidatingAdmissionPolicy `sheaf-node-owns`, applied by [`crate::install`].

use serde_json::{Value, json};

use super::{by_a_node, refusing, writes};

/// Name of the role and of its binding.
pub const ROLE: &str = "sheaf:node";
/// Name of the policy and of its binding.
pub const POLICY: &str = "sheaf-node-owns";

/// What nodes do with a kind of the group `sheaf.dev`.
struct Kind {
    resource: &'static str,
    may: May,
}

/// How far a node may go with objects whose `spec.nodeName` it is.
enum May {
    /// Make objects and report on them; their spec stays as it was made, or as others change it.
    Make,
    /// Report on objects that others made, and hold their finalizers.
    Serve,
    /// Everything: make, change, report, delete.
    Own,
    /// Read: objects that belong to no node, or that an administrator made for the node.
    Read,
}

/// One row a kind.
const KINDS: &[Kind] = &[
    Kind { resource: "blockdevices", may: May::Make },
    Kind { resource: "storagepools", may: May::Make },
    Kind { resource: "localvolumes", may: May::Serve },
    Kind { resource: "nodenetworkpolicies", may: May::Read },
    Kind { resource: "importpolicies", may: May::Read },
    Kind { resource: "clusterconfigs", may: May::Read },
    Kind { resource: "nodenetworkenactments", may: May::Own },
    Kind { resource: "nodenetworkstates", may: May::Own },
    Kind { resource: "nodeupdates", may: May::Serve },
    Kind { resource: "noderemovals", may: May::Read },
];

/// The role.
pub fn role() -> Value {
    let rules: Vec<Value> = KINDS.iter().flat_map(Kind::rules).collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": ROLE}, "rules": rules,
    })
}

/// The role, to every node.
pub fn role_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": ROLE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    })
}

impl Kind {
    fn rules(&self) -> Vec<Value> {
        let verbs: &[&str] = match self.may {
            May::Make => &["get", "list", "watch", "create", "update", "patch"],
            May::Serve => &["get", "list", "watch", "update", "patch"],
            May::Own => &["get", "list", "watch", "create", "update", "patch", "delete"],
            May::Read => &["get", "list", "watch"],
        };
        let rule = |resource: String, verbs: &[&str]| json!({"apiGroups": ["sheaf.dev"], "resources": [resource], "verbs": verbs});
        let mut rules = vec![rule(self.resource.into(), verbs)];
        if !matches!(self.may, May::Read) {
            rules.push(rule(format!("{}/status", self.resource), &["get", "update", "patch"]));
        }
        rules
    }
}

/// The policy.
pub fn policy() -> Value {
    let own: Vec<_> =
        KINDS.iter().filter(|kind| matches!(kind.may, May::Own)).map(|kind| kind.resource).collect();
    refusing(
        POLICY,
        // Every kind of the group: one that has no row is refused.
        &[writes(&["CREATE", "UPDATE", "DELETE"], "sheaf.dev", &["*/*"])],
        json!({
            "matchConditions": by_a_node(),
            "variables": [
                {"name": "whose", "expression":
                    "(request.operation == 'DELETE' ? oldObject : object).?spec.?nodeName.orValue('')"},
                {"name": "before", "expression":
                    "request.operation == 'UPDATE' ? oldObject.?spec.?nodeName.orValue('') : variables.whose"},
            ],
            "validations": [
                {
                    "expression": "request.userInfo.username == 'system:node:' + variables.whose && \
                                   variables.before == variables.whose",
                    "messageExpression": "request.userInfo.username + ' writes only what has its own name in \
                                          spec.nodeName, and this has ' + (variables.whose == '' ? 'none' : \
                                          variables.whose)",
                    "message": "a node writes only what has its own name in spec.nodeName",
                    "reason": "Forbidden",
                },
                {
                    "expression": format!(
                        "request.operation != 'UPDATE' || request.resource.resource in {} || \
                         object.spec == oldObject.spec",
                        json!(own)
                    ),
                    "message": "a node reports; the spec is for the operator and the controller to change",
                    "reason": "Forbidden",
                },
                {
                    // Whose a disk is stands in its name: nodes::limits counts by it.
                    "expression": "request.operation != 'CREATE' || request.resource.resource != 'blockdevices' || \
                                   !object.metadata.name.substring(variables.whose.size() + 1).contains('.')",
                    "message": "the name of a disk after its node's holds no dot",
                    "reason": "Invalid",
                },
                {
                    "expression": "request.operation != 'CREATE' || request.resource.resource != 'blockdevices' || \
                                   object.spec.?role.orValue('none') == 'none' && !has(object.spec.wipe)",
                    "message": "a node reports its disks; role and wipe are set by the operator",
                    "reason": "Forbidden",
                },
            ],
        }),
    )
}
