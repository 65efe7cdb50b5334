//! Server-side apply of objects given as JSON.
//!
//! Why here: bootstrap makes a handful of objects of several kinds. Route in: objects. Route out: the same objects in
//! the cluster; doing it again changes nothing.

use anyhow::Context as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// Applies `objects` in order.
pub async fn all(client: &kube::Client, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = match text("/metadata/namespace") {
            "" => Api::all_with(client.clone(), &resource),
            namespace => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        let parameters = PatchParams::apply("sheaf-agent").force();
        api.patch(name, &parameters, &Patch::Apply(object))
            .await
            .with_context(|| format!("{kind} {name}"))?;
    }
    Ok(())
}
