//! Boot loaders and recovery after an update: when they are replaced, by what, and when they are not.

use super::*;

#[tokio::test]
async fn boot_loaders_and_recovery_are_replaced_once_the_release_is_good_and_not_before() {
    for is_uefi in [true, false] {
        let mut world = World::new(is_uefi);
        let before = |world: &World| {
            let files = world.esp.files();
            [LOADER, FALLBACK, MENU, RECOVERY].map(|path| files.get(path).cloned())
        };
        let old = before(&world);
        assert!(old[3].is_none(), "this disk was installed before there was a recovery");
        world.work(&wanted(), usize::MAX).await;
        assert_eq!(world.boot(), "0.2.0");
        assert_eq!(before(&world), old, "it is on trial");
        world.bless().await;
        world.is_refreshed("kept");
        let files = world.esp.files();
        assert_eq!(Some(&files[FALLBACK]), old[0].as_ref(), "the one that started this boot");
        let slots = world.observed().slots();
        assert_eq!((slots.loader.as_deref(), slots.has_recovery), (Some("systemd-boot of 0.2.0"), true));
    }
}

#[tokio::test]
async fn what_the_disk_has_already_is_neither_fetched_nor_written() {
    let mut world = World::new(true);
    let new = &world.releases["0.2.0"];
    let uki = &new.manifest.installer_uki;
    for (path, bytes) in [
        (LOADER, new.files["loader.efi"].clone()),
        (RECOVERY, new.files["installer.efi"].clone()),
        (RECOVERY_ENTRY, sheaf_release::boot::recovery_entry(uki, &world.machine().esp()).into_bytes()),
        (RECOVERY_SCRIPT, sheaf_release::boot::recovery_script(uki).into_bytes()),
    ] {
        world.esp.replace(path, &mut &bytes[..]).unwrap();
    }
    world.work(&wanted(), usize::MAX).await;
    world.boot();
    let asked: Vec<String> = world.fetch.asked.lock().unwrap().iter().map(|(url, _)| url.clone()).collect();
    assert!(
        !asked.iter().any(|url| url.ends_with("installer.efi") || url.ends_with("loader.efi")),
        "{asked:?}"
    );
    assert!(asked.iter().any(|url| url.ends_with("node.cfg")), "{asked:?}");
    let observed = world.observed();
    let steps = keep(&observed, observed.trial.as_ref());
    let refreshed: Vec<_> = steps.iter().filter(|step| matches!(step, Step::Refresh(_))).collect();
    assert_eq!(refreshed, [&Step::Refresh(loaders::File::Menu)]);
}

#[tokio::test]
async fn a_source_without_an_installer_updates_the_node_and_leaves_the_recovery_as_it_is() {
    let mut world = World::new(true);
    let fetch = Arc::get_mut(&mut world.fetch).unwrap();
    fetch.files.remove(&format!("{URL}/installer.efi")).unwrap();
    world.work(&wanted(), usize::MAX).await;
    assert_eq!(world.boot(), "0.2.0");
    world.bless().await;
    let files = world.esp.files();
    assert!(!files.contains_key(RECOVERY) && !files.contains_key(RECOVERY_SCRIPT));
    assert_eq!(files[LOADER], world.releases["0.2.0"].files["loader.efi"]);
    assert_eq!(world.observed().kept, None);
}

#[tokio::test]
async fn a_release_that_is_rolled_back_replaces_nothing() {
    let mut world = World::new(true);
    let before = world.esp.files();
    world.work(&wanted(), usize::MAX).await;
    for _ in 0..3 {
        assert_eq!(world.boot(), "0.2.0");
    }
    assert_eq!(world.boot(), "0.1.0");
    world.work(&wanted(), usize::MAX).await;
    let after = world.esp.files();
    for path in [LOADER, FALLBACK, MENU] {
        assert_eq!(before[path], after[path], "{path}");
    }
}
