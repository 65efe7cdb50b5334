//! Whole updates from a registry and from a drive.

use super::*;
use crate::registry::Digest;
use serde_json::json;

/// The release 0.2.0 of `world` as an artifact in a registry, and nothing on servers.
fn pushed(world: &mut World) -> Place {
    let base = "https://registry.example.org/v2/team/sheaf";
    let files = &world.releases["0.2.0"].files;
    let mut served: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let layers: Vec<_> = files
        .iter()
        .map(|(name, bytes)| {
            let digest = Digest::of(bytes).to_string();
            served.insert(format!("{base}/blobs/{digest}"), bytes.clone());
            json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len(),
                "annotations": {"org.opencontainers.image.title": name}})
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "artifactType": "application/vnd.unknown.artifact.v1", "config": {},
        "layers": layers});
    served.insert(format!("{base}/manifests/0.2.0"), manifest.to_string().into_bytes());
    world.fetch = Arc::new(FakeFetch { files: served, ..FakeFetch::default() });
    Place::Oci("registry.example.org/team/sheaf:0.2.0".into())
}

#[tokio::test]
async fn a_release_is_taken_from_a_registry() {
    let mut world = World::new(true);
    let wanted = Wanted { source: Some(pushed(&mut world)), ..wanted() };
    world.work(&wanted, usize::MAX).await;
    assert_eq!(world.boot(), "0.2.0");
    world.finish(&wanted, "from a registry").await;
}

fn units(world: &World, what: &str) -> usize {
    let of_drive = |asked: &&String| asked.starts_with(what) && asked.contains("sheaf-drive@");
    world.units.asked().iter().filter(of_drive).count()
}

#[tokio::test]
async fn a_release_is_taken_from_a_drive_that_is_mounted_only_while_it_is_read() {
    for folder in ["sheaf-0.2.0", "sheaf", ""] {
        let mut world = World::new(true);
        world.fetch = Arc::default();
        let drive = world.hosts().drive.join(folder);
        fs::create_dir_all(&drive).unwrap();
        for (name, bytes) in &world.releases["0.2.0"].files {
            fs::write(drive.join(name), bytes).unwrap();
        }
        let labels = world.hosts().labels;
        fs::create_dir_all(&labels).unwrap();
        fs::write(labels.join("SHEAF-UPDATE"), "").unwrap();
        let wanted = Wanted { source: Some(Place::Drive("SHEAF-UPDATE".into())), ..wanted() };
        world.work(&wanted, usize::MAX).await;
        assert_eq!(world.boot(), "0.2.0", "{folder}");
        world.finish(&wanted, "from a drive").await;
        assert_eq!((units(&world, "start"), units(&world, "stop")), (3, 3), "{:?}", world.units.asked());
    }
}

async fn said(world: &World, wanted: &Wanted) -> String {
    let Plan::Work(Phase::Checking, steps) = plan(&world.observed(), Some(wanted)) else {
        panic!("it is fetched first");
    };
    format!("{:#}", apply::all(world.env(world.observed()), steps).await.unwrap_err())
}

#[tokio::test]
async fn a_drive_that_is_absent_cannot_be_mounted_or_holds_no_release_is_named_with_what_to_do() {
    let world = World::new(true);
    let wanted = Wanted { source: Some(Place::Drive("STICK".into())), ..wanted() };
    let begin = "cannot fetch and judge release 0.2.0 on the drive labelled STICK: ";
    assert_eq!(
        said(&world, &wanted).await,
        format!(
            "{begin}no drive labelled STICK is at this node; plug it in, or label its file system (vfat, ext4, iso9660) so"
        )
    );
    fs::create_dir_all(world.hosts().labels).unwrap();
    fs::write(world.hosts().labels.join("STICK"), "").unwrap();
    assert_eq!(
        said(&world, &wanted).await,
        format!(
            "{begin}the drive labelled STICK has no manifest.json in /sheaf-0.2.0, /sheaf, /; copy the folder of the release \
             onto it"
        )
    );
    assert_eq!((units(&world, "start"), units(&world, "stop")), (1, 1), "it is released");
    world.units.fail("sheaf-drive@STICK.service", "failed");
    let error = said(&world, &wanted).await;
    assert!(
        error.starts_with(&format!(
            "{begin}the drive labelled STICK cannot be mounted; format it as vfat or ext4: "
        )),
        "{error}"
    );
}

#[tokio::test]
async fn a_release_that_is_staged_is_applied_without_its_source() {
    let mut world = World::new(true);
    world.work(&Wanted { action: Action::Stage, ..wanted() }, usize::MAX).await;
    let apply = Wanted {
        source: None,
        request: Request { uid: "local-1".into(), generation: 0 },
        is_local: true,
        ..wanted()
    };
    world.work(&apply, usize::MAX).await;
    assert_eq!(world.boot(), "0.2.0");
}
