//! Roles of the console, as bindings of roles that Kubernetes and KubeVirt have.
//!
//! Why here: nothing beside RBAC decides what somebody may do, so what kubectl shows is the truth. In a project (a namespace):
//! `view`, `edit`, `admin`, to which sheaf-controller adds KubeVirt's rights. For the whole cluster `edit` would be the right to
//! read and write every Secret, those of the console too: who operates the cluster gets `view` with KubeVirt's own roles
//! instead. Pure. Route in: grants; the bindings there are. Route out: steps.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheaf_api::identity_provider::PREFIX;

use crate::{
    answer::Refusal,
    names::{ADMINISTER, FIRST_ROLES, ROLE_LABEL, USER_LABEL, USER_PREFIX, VIEW_CLUSTER_ROLE},
};

/// Where bindings are.
pub const API: &str = "/apis/rbac.authorization.k8s.io/v1";
/// Namespaces with these prefixes are the cluster's own.
const RESERVED: [&str; 2] = ["kube-", "sheaf-"];

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See.
    View,
    /// Create, change, start, delete.
    Operate,
    /// And say who may.
    Administer,
}

/// A role, where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// What.
    pub role: Role,
    /// In which project; none is the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Whose bindings.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// A user of the console.
    pub user: &'a str,
    /// What the identity provider calls him: kubectl with a token of it has the same rights.
    pub external: Option<&'a str>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// POST.
    Create {
        /// Of the collection.
        path: String,
        /// The binding.
        binding: Value,
    },
    /// DELETE.
    Delete {
        /// Of the binding.
        path: String,
    },
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Administer => ADMINISTER,
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::View, Self::Operate, Self::Administer].into_iter().find(|role| role.word() == word)
    }

    /// The ClusterRoles behind it.
    fn cluster_roles(self, project: bool) -> &'static [&'static str] {
        match (self, project) {
            (Self::View, true) => &["view"],
            (Self::Operate, true) => &["edit"],
            (Self::Administer, true) => &["admin"],
            (Self::View, false) => &["view", VIEW_CLUSTER_ROLE],
            (Self::Operate, false) => &["view", VIEW_CLUSTER_ROLE, "sheaf:edit", "kubevirt.io:edit"],
            (Self::Administer, false) => &FIRST_ROLES,
        }
    }
}

/// Whether a namespace is the cluster's own, and no project.
pub fn is_reserved(namespace: &str) -> bool {
    RESERVED.iter().any(|prefix| namespace.starts_with(prefix))
}

/// Refuses grants that cannot be made.
pub fn check(grants: &[Grant]) -> Result<(), Refusal> {
    for project in grants.iter().filter_map(|grant| grant.project.as_deref()) {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if project.is_empty() || project.len() > 63 || !project.bytes().all(inside) {
            return Err(Refusal::invalid(format!("{project:?} is not the name of a project")));
        }
        if is_reserved(project) {
            return Err(Refusal::invalid(format!("{project} is the cluster's own: no role is given in it")));
        }
    }
    Ok(())
}

/// The bindings of `whose` for `grants`.
pub fn bindings(whose: Subject<'_>, grants: &[Grant]) -> Vec<Value> {
    let mut made: Vec<Value> = Vec::new();
    for grant in grants {
        for role in grant.role.cluster_roles(grant.project.is_some()) {
            let binding = binding(whose, grant, role);
            let place = |binding: &Value| {
                (binding["metadata"]["name"].clone(), binding["metadata"]["namespace"].clone())
            };
            if !made.iter().any(|there| place(there) == place(&binding)) {
                made.push(binding);
            }
        }
    }
    made
}

fn binding(whose: Subject<'_>, grant: &Grant, role: &str) -> Value {
    let (user, word) = (whose.user, grant.role.word());
    let names = std::iter::once(format!("{USER_PREFIX}{user}"))
        .chain(whose.external.map(|external| format!("{PREFIX}{external}")));
    let subjects: Vec<Value> = names
        .map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}))
        .collect();
    let mut metadata = json!({
        "name": format!("console:{user}:{word}:{role}"),
        "labels": {USER_LABEL: user, ROLE_LABEL: word},
    });
    let kind = match &grant.project {
        Some(project) => {
            metadata["namespace"] = json!(project);
            "RoleBinding"
        }
        None => "ClusterRoleBinding",
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

/// What `binding` grants to `user`; none if it is somebody else's, or was made by hand.
pub fn grant(binding: &Value, user: &str) -> Option<Grant> {
    let labels = &binding["metadata"]["labels"];
    if labels[USER_LABEL] != user {
        return None;
    }
    let role = Role::of_word(labels[ROLE_LABEL].as_str()?)?;
    Some(Grant { role, project: binding["metadata"]["namespace"].as_str().map(str::to_owned) })
}

/// The steps from the bindings that are there to those of `wanted`; what is new comes first.
pub fn plan(whose: Subject<'_>, wanted: &[Grant], there: &[Value]) -> Vec<Step> {
    let wanted = bindings(whose, wanted);
    // A binding whose role or subjects were changed by hand is made again.
    let same = |one: &Value, other: &Value| {
        path(one) == path(other) && one["roleRef"] == other["roleRef"] && one["subjects"] == other["subjects"]
    };
    let surplus = there.iter().filter(|binding| !wanted.iter().any(|wanted| same(wanted, binding)));
    let missing = wanted.iter().filter(|wanted| !there.iter().any(|binding| same(wanted, binding)));
    let delete = |binding: &Value| Step::Delete { path: path(binding) };
    let (replaced, gone): (Vec<_>, Vec<_>) =
        surplus.partition(|binding| wanted.iter().any(|wanted| path(wanted) == path(binding)));
    let create = missing.map(|binding| Step::Create { path: collection(binding), binding: binding.clone() });
    replaced.into_iter().map(delete).chain(create).chain(gone.into_iter().map(delete)).collect()
}

fn collection(binding: &Value) -> String {
    match binding["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{API}/namespaces/{namespace}/rolebindings"),
        None => format!("{API}/clusterrolebindings"),
    }
}

fn path(binding: &Value) -> String {
    format!("{}/{}", collection(binding), binding["metadata"]["name"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant_of(role: Role, project: Option<&str>) -> Grant {
        Grant { role, project: project.map(str::to_owned) }
    }

    const ALICE: Subject<'_> = Subject { user: "alice", external: None };

    fn names(bindings: &[Value]) -> Vec<&str> {
        bindings.iter().map(|binding| binding["roleRef"]["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn roles_are_those_of_kubernetes_and_kubevirt_and_none_of_the_cluster_writes_secrets_but_the_administrators()
     {
        let of = |role, project| bindings(ALICE, &[grant_of(role, project)]);
        assert_eq!(names(&of(Role::View, Some("shop"))), ["view"]);
        assert_eq!(names(&of(Role::Operate, Some("shop"))), ["edit"]);
        assert_eq!(names(&of(Role::Administer, Some("shop"))), ["admin"]);
        assert_eq!(names(&of(Role::View, None)), ["view", "sheaf:console:view-cluster"]);
        assert_eq!(
            names(&of(Role::Operate, None)),
            ["view", "sheaf:console:view-cluster", "sheaf:edit", "kubevirt.io:edit"]
        );
        assert_eq!(names(&of(Role::Administer, None)), ["cluster-admin"]);
        let binding = &of(Role::Operate, Some("shop"))[0];
        assert_eq!(binding["kind"], "RoleBinding");
        assert_eq!(binding["metadata"]["namespace"], "shop");
        assert_eq!(binding["subjects"][0]["name"], "console:alice");
        assert_eq!(grant(binding, "alice"), Some(grant_of(Role::Operate, Some("shop"))));
        assert_eq!(grant(binding, "bob"), None);
    }

    #[test]
    fn a_change_of_roles_makes_what_is_new_and_then_removes_what_is_old() {
        let before =
            bindings(ALICE, &[grant_of(Role::View, Some("shop")), grant_of(Role::Operate, Some("lab"))]);
        let wanted = [grant_of(Role::View, Some("shop")), grant_of(Role::Administer, Some("lab"))];
        let steps = plan(ALICE, &wanted, &before);
        assert_eq!(steps.len(), 2);
        assert!(
            matches!(&steps[0], Step::Create { path, .. } if path.ends_with("/namespaces/lab/rolebindings"))
        );
        assert_eq!(
            steps[1],
            Step::Delete { path: format!("{API}/namespaces/lab/rolebindings/console:alice:operate:edit") }
        );
        assert_eq!(plan(ALICE, &wanted, &bindings(ALICE, &wanted)), []);
        assert_eq!(plan(ALICE, &[], &before).len(), 2);
        // Who has a name at the identity provider has the rights with its tokens too; bindings of before are made again.
        let external = Subject { external: Some("alice@example.org"), ..ALICE };
        let with = bindings(external, &wanted);
        assert_eq!(with[0]["subjects"][1]["name"], "oidc:alice@example.org");
        assert_eq!(plan(external, &wanted, &bindings(ALICE, &wanted)).len(), 4);
        // Somebody pointed the binding at another role by hand.
        let mut bent = bindings(ALICE, &wanted);
        bent[0]["subjects"][0]["name"] = json!("mallory");
        let steps = plan(ALICE, &wanted, &bent);
        assert!(matches!((&steps[0], &steps[1]), (Step::Delete { .. }, Step::Create { .. })), "{steps:?}");
    }

    #[test]
    fn no_role_is_given_in_namespaces_of_the_cluster_or_in_what_is_none() {
        let refused = |project| check(&[grant_of(Role::View, Some(project))]).unwrap_err().message;
        assert_eq!(refused("kube-system"), "kube-system is the cluster's own: no role is given in it");
        assert_eq!(refused("sheaf-console"), "sheaf-console is the cluster's own: no role is given in it");
        assert_eq!(refused("../x"), "\"../x\" is not the name of a project");
        assert_eq!(refused(""), "\"\" is not the name of a project");
        assert_eq!(check(&[grant_of(Role::View, Some("shop")), grant_of(Role::Administer, None)]), Ok(()));
        let unknown = serde_json::from_value::<Grant>(json!({"role": "root"}));
        assert!(unknown.is_err());
    }
}
