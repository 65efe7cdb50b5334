//! One arm per action; no decision is taken here.
//!
//! Route in: [`Action`]s. Route out: ClusterRoleBindings, the ConfigMap `kube-public/sheaf-access`.

use super::ACCESS;
use super::plan::{Action, binding_of};
use crate::cluster::{apply, ok_if_gone};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, DeleteParams};
use serde_json::json;

/// Does `action`.
pub async fn apply(client: &kube::Client, action: &Action) -> anyhow::Result<()> {
    match action {
        Action::Bind(user) => {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": binding_of(user), "labels": {"sheaf.dev/administrator": "true"}},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            });
            apply::all(client, &[binding]).await
        }
        Action::Unbind(user) => {
            let (bindings, name): (Api<ClusterRoleBinding>, _) = (Api::all(client.clone()), binding_of(user));
            ok_if_gone(bindings.delete(&name, &DeleteParams::default()).await)
                .with_context(|| format!("removing ClusterRoleBinding {name}"))
        }
        Action::Publish(data) => {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
            // Made again, so that nothing of before is left in it.
            ok_if_gone(maps.delete(ACCESS, &DeleteParams::default()).await)
                .with_context(|| format!("removing ConfigMap kube-public/{ACCESS}"))?;
            let objects = [
                json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": ACCESS, "namespace": "kube-public"}, "data": data,
                }),
                json!({
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                    "metadata": {"name": ACCESS, "namespace": "kube-public"},
                    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [ACCESS], "verbs": ["get"]}],
                }),
                json!({
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                    "metadata": {"name": ACCESS, "namespace": "kube-public"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCESS},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"}],
                }),
            ];
            apply::all(client, &objects).await
        }
    }
}
