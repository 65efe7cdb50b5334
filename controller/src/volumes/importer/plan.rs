//! Decides whether a volume has an importer Pod, and what is in it.
//!
//! Why here: pure, so that every state of an import is a test. The namespace whose Secrets are opened is the claim's, and the
//! claim is known by its UID, which is the volume's name: a node may write the annotations of its volumes, and so would
//! choose. Route in: the volume, the claim that it names, the Pods that carry its label. Route out: [`Action`]s.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use sheaf_api::{
    names::{IMPORT_LABEL, IMPORTER_IMAGE},
    storage::{
        LocalVolume,
        local_volume::{HttpSource, VolumePhase},
    },
};

use crate::{placeholder::idle, volumes::name_for};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the Pod.
    Create(Box<Pod>),
    /// Delete a Pod, if it still is the one with this UID.
    Delete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

/// What is to be done about the Pods of `volume`.
pub fn plan(
    volume: &LocalVolume,
    claim: Option<&PersistentVolumeClaim>,
    pods: &[Pod],
) -> Result<Vec<Action>, serde_json::Error> {
    let wanted =
        wanted(volume, claim).map(|(namespace, source)| pod(volume, namespace, source)).transpose()?;
    let keeps = |there: &&Pod| wanted.as_ref().is_some_and(|wanted| is_as_wanted(there, wanted));
    let mut actions: Vec<_> = pods.iter().filter(|there| !keeps(there)).map(delete).collect();
    // One that has the name is gone first; that is a change, and leads here again.
    if let Some(wanted) = &wanted
        && pods.is_empty()
    {
        actions.push(Action::Create(Box::new(wanted.clone())));
    }
    Ok(actions)
}

/// The namespace and the source of an import that needs credentials and is not over.
fn wanted<'a>(
    volume: &'a LocalVolume,
    claim: Option<&'a PersistentVolumeClaim>,
) -> Option<(&'a str, &'a HttpSource)> {
    let source = volume.spec.source.http.as_ref().filter(|http| http.has_references())?;
    let claim = claim.filter(|claim| volume.metadata.name.as_deref() == Some(&name_for(claim)))?;
    let is_deleted =
        volume.metadata.deletion_timestamp.is_some() || claim.metadata.deletion_timestamp.is_some();
    let phase = volume.status.as_ref().and_then(|status| status.phase);
    let is_over = matches!(phase, Some(VolumePhase::Ready | VolumePhase::Failed));
    (!is_deleted && !is_over).then_some((claim.metadata.namespace.as_deref()?, source))
}

/// Whether `there` opens what `wanted` would: for the same object, on the same node, and not ended (evicted, for example).
fn is_as_wanted(there: &Pod, wanted: &Pod) -> bool {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let owner =
        |pod: &Pod| pod.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).next();
    let phase = there.status.as_ref().and_then(|status| status.phase.as_deref());
    there.metadata.namespace == wanted.metadata.namespace
        && there.metadata.name == wanted.metadata.name
        && there.metadata.deletion_timestamp.is_none()
        && node(there) == node(wanted)
        && owner(there) == owner(wanted)
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn delete(pod: &Pod) -> Action {
    let meta = &pod.metadata;
    Action::Delete {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// The Pod: bound to the volume's node from the start, running nothing, referring to what the source names.
fn pod(volume: &LocalVolume, namespace: &str, source: &HttpSource) -> Result<Pod, serde_json::Error> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let secrets = source.secrets().into_iter().enumerate();
    let mut volumes: Vec<Value> = secrets
        .map(|(index, secret)| json!({"name": format!("secret-{index}"), "secret": {"secretName": secret}}))
        .collect();
    if let Some(map) = &source.cert_config_map {
        volumes.push(json!({"name": "authorities", "configMap": {"name": map}}));
    }
    let mut spec = idle::spec("importer", IMPORTER_IMAGE, &volumes);
    spec["nodeName"] = json!(volume.spec.node_name);
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("importer-{name}"),
            "namespace": namespace,
            "labels": {IMPORT_LABEL: name},
            "ownerReferences": [{
                "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume",
                "name": name, "uid": volume.metadata.uid, "controller": true,
            }],
        },
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::{
        conditions::seconds,
        volumes::testing::{GIB, UID, claim, in_phase, volume},
    };

    fn import(source: Value) -> LocalVolume {
        let mut volume = volume(&format!("pvc-{UID}"), "n1", GIB);
        let mut http = json!({"url": "https://images.example/a", "checksum": "sha256:"});
        http.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        volume.spec.source = serde_json::from_value(json!({"http": http})).unwrap();
        volume
    }

    fn with_login() -> LocalVolume {
        import(
            json!({"secretRef": "login", "secretExtraHeaders": ["tokens", "login"], "certConfigMap": "ca"}),
        )
    }

    fn of(volume: &LocalVolume, pods: &[Pod]) -> Vec<Action> {
        plan(volume, Some(&claim(json!({}), json!({}))), pods).unwrap()
    }

    fn created(volume: &LocalVolume) -> Pod {
        match of(volume, &[]).as_slice() {
            [Action::Create(pod)] => Pod::clone(pod),
            other => panic!("{other:?}"),
        }
    }

    fn is_delete(actions: &[Action]) -> bool {
        matches!(actions, [Action::Delete { .. }])
    }

    #[test]
    fn the_pod_is_in_the_claims_namespace_on_the_volumes_node_and_names_what_the_source_does() {
        let pod = created(&with_login());
        assert_eq!(pod.metadata.namespace.as_deref(), Some("shop"));
        let spec = serde_json::to_value(pod.spec).unwrap();
        assert_eq!((&spec["nodeName"], &spec["runtimeClassName"]), (&json!("n1"), &json!("sheaf-vm")));
        assert_eq!(
            spec["volumes"],
            json!([{"name": "secret-0", "secret": {"secretName": "login"}},
                   {"name": "secret-1", "secret": {"secretName": "tokens"}},
                   {"name": "authorities", "configMap": {"name": "ca"}}])
        );
        assert!(spec["containers"][0].get("volumeMounts").is_none());
    }

    #[test]
    fn there_is_one_from_the_volumes_beginning_until_it_is_filled_failed_or_deleted() {
        let volume = with_login();
        let pod = [created(&volume)];
        for phase in ["Pending", "Creating", "Populating"] {
            let volume = in_phase(volume.clone(), phase, "NodeFailed");
            assert_eq!(of(&volume, &pod), [], "{phase}");
            assert_eq!(created(&volume), pod[0], "{phase}");
        }
        let mut deleted = volume.clone();
        deleted.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
        let ends =
            [in_phase(volume.clone(), "Ready", "Ready"), in_phase(volume, "Failed", "BadImage"), deleted];
        for over in ends {
            assert!(is_delete(&of(&over, &pod)), "{:?}", over.status);
            assert_eq!(of(&over, &[]), []);
        }
    }

    #[test]
    fn an_import_without_references_has_none() {
        assert_eq!(of(&import(json!({})), &[]), []);
    }

    #[test]
    fn a_node_that_rewrites_the_annotation_of_its_volume_opens_no_other_namespace() {
        let volume = with_login();
        let mut other = claim(json!({"uid": "another"}), json!({}));
        other.metadata.namespace = Some("bank".into());
        assert_eq!(plan(&volume, Some(&other), &[]).unwrap(), []);
        assert_eq!(plan(&volume, None, &[]).unwrap(), []);
        assert!(is_delete(&plan(&volume, Some(&other), &[created(&volume)]).unwrap()));
    }

    #[test]
    fn a_pod_that_has_ended_or_is_of_an_earlier_volume_makes_room_for_another() {
        let volume = with_login();
        let mut evicted = created(&volume);
        evicted.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
        assert!(is_delete(&of(&volume, &[evicted])));
        let mut earlier = volume.clone();
        earlier.metadata.uid = Some("earlier".into());
        assert!(is_delete(&of(&volume, &[created(&earlier)])));
        let mut moved = volume.clone();
        moved.spec.node_name = "n2".into();
        assert!(is_delete(&of(&moved, &[created(&volume)])));
    }
}
