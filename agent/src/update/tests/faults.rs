//! Whole updates on real files, whose disk fails at every call that changes something: each in turn, none left out.
//!
//! Why real files: the calls are those of the node. Counted together are the folder of the updater on the state partition, the
//! EFI system partition and the partitions of the slot. The table of `cargo test -p sheaf-agent --lib faults -- --nocapture` is
//! that of docs/reliability.md.

use super::*;
use sheaf_host::fakes::Fault;

/// Errors that a disk reports.
const ERRORS: [Fault; 2] = [Fault::Io, Fault::NoSpace];

impl World {
    /// A world on real files.
    fn on_files(is_uefi: bool, faults: Faults) -> Self {
        let mut world = Self::new(is_uefi);
        for (file, bytes) in world.esp.files() {
            let path = world.root.path().join("esp").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        world.faults = Some(faults);
        world
    }

    /// Plans and applies until the restart, the end, or a step that fails.
    async fn advance(&self, wanted: &Wanted) -> anyhow::Result<Plan> {
        loop {
            let observed = self.observed();
            let next = plan(&observed, Some(wanted));
            let Plan::Work(_, steps) = &next else { return Ok(next) };
            let restarts = steps.contains(&Step::Restart);
            apply::all(self.env(observed), steps.clone()).await?;
            if restarts {
                return Ok(next);
            }
        }
    }

    /// The slot that is written holds all of 0.2.0.
    fn is_staged_whole(&self) -> bool {
        let release = &self.releases["0.2.0"];
        let (root, tree) = self.machine().partitions(self.root.path(), Slot::B);
        fs::read(root).unwrap().starts_with(&release.raw)
            && fs::read(tree).unwrap().starts_with(&release.tree)
    }

    /// What the boot loader would start now, without a boot.
    fn is_armed(&self) -> bool {
        self.ukis().iter().any(|uki| uki.version == "0.2.0")
    }
}

/// An update up to its restart, or the end of its trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Update,
    Keep,
}

/// The world at the beginning of `part`, whose disk is to do `fault` at its call number `call`.
async fn before(is_uefi: bool, part: Part, call: usize, fault: Fault) -> (World, Faults) {
    let mut world = World::on_files(is_uefi, Faults::default());
    if part == Part::Keep {
        world.advance(&wanted()).await.unwrap();
        assert_eq!(world.boot(), "0.2.0");
    }
    let faults = Faults::at(call, fault);
    world.faults = Some(faults.clone());
    (world, faults)
}

async fn work(world: &World, part: Part) -> anyhow::Result<()> {
    match part {
        Part::Update => world.advance(&wanted()).await.map(drop),
        Part::Keep => {
            let observed = world.observed();
            let steps = keep(&observed, observed.trial.as_ref());
            apply::all(world.env(observed), steps).await
        }
    }
}

/// All calls that an update without faults makes.
async fn calls(is_uefi: bool, part: Part) -> Vec<String> {
    let (world, faults) = before(is_uefi, part, usize::MAX, Fault::Io).await;
    work(&world, part).await.unwrap();
    faults.calls()
}

/// What an error has to say: the file or its folder, what was done to it, the kernel's words, and what to do.
fn names_everything(error: &str, path: &Path, fault: Fault) {
    let name = path.file_name().unwrap().to_string_lossy();
    let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")).unwrap_or(&name);
    assert!(error.starts_with("cannot "), "{error}");
    assert!(error.contains(name), "{name}: {error}");
    assert!(
        error.contains("cannot be ") || error.contains("write of ") || error.contains("could not be"),
        "{error}"
    );
    let (words, remedies): (_, &[&str]) = match fault {
        Fault::NoSpace => ("No space left on device", &["partition is full: ", "boot disk is full: "]),
        _ => ("Input/output error", &["the boot disk may be failing: see its BlockDevice"]),
    };
    assert!(error.contains(words), "{error}");
    assert!(remedies.iter().any(|remedy| error.contains(remedy)), "{error}");
}

/// Every call of `part` fails once, with each error.
async fn every_call_fails(is_uefi: bool, part: Part) {
    let firmware = if is_uefi { "UEFI" } else { "BIOS" };
    let calls = calls(is_uefi, part).await;
    for (call, fault) in (0..calls.len()).flat_map(|call| ERRORS.map(|fault| (call, fault))) {
        let what = format!("{firmware}, {part:?}, {fault:?} at call {call}: {}", calls[call]);
        let (mut world, faults) = before(is_uefi, part, call, fault).await;
        let error = work(&world, part).await.expect_err(&what);
        assert!(faults.was_hit(), "{what}");
        let (_, path) = faults.call(call).unwrap();
        names_everything(&format!("{error:#}"), &path, fault);
        faults.clear();

        // Nothing counts as staged or is armed that is not whole.
        let staged = world.observed().kept.is_some_and(|kept| kept.fetched.staged);
        assert!(world.is_staged_whole() || !(staged || world.is_armed()), "{what}: {error:#}");
        // Where nothing was armed the running release stays the first choice.
        let (first, is_armed, off) = (world.running.version.clone(), world.is_armed(), call % 2 == 0);
        if off {
            let booted = world.boot();
            assert!(booted == first || (is_armed && booted == "0.2.0"), "{what}: {booted}");
        }
        world.finish(&wanted(), &format!("{what}, switched off: {off}")).await;
    }
    let count = |verb: &str| calls.iter().filter(|call| call.split(' ').next() == Some(verb)).count();
    // Every kind of call is among them, or the test looks at too little.
    for verb in ["create", "write", "fsync", "rename", "remove"] {
        assert!(count(verb) > 0, "{verb}: {calls:?}");
    }
    println!(
        "| {firmware} | {} | {} | {} | {} | {} | {} | {} | {} |",
        if part == Part::Update { "fetch, stage, arm" } else { "keep" },
        count("create") + count("mkdir"),
        count("write"),
        count("fsync"),
        count("rename"),
        count("remove"),
        calls.len(),
        calls.len() * ERRORS.len(),
    );
}

#[tokio::test]
async fn a_disk_that_fails_at_any_call_of_an_update_leaves_a_node_that_starts_and_the_next_try_succeeds_by_uefi()
 {
    every_call_fails(true, Part::Update).await;
}

#[tokio::test]
async fn a_disk_that_fails_at_any_call_of_an_update_leaves_a_node_that_starts_and_the_next_try_succeeds_by_bios()
 {
    every_call_fails(false, Part::Update).await;
}

#[tokio::test]
async fn a_disk_that_fails_at_any_call_while_a_release_is_kept_does_not_undo_it_by_uefi() {
    every_call_fails(true, Part::Keep).await;
}

#[tokio::test]
async fn a_disk_that_fails_at_any_call_while_a_release_is_kept_does_not_undo_it_by_bios() {
    every_call_fails(false, Part::Keep).await;
}

#[tokio::test]
async fn short_writes_and_a_slow_disk_change_nothing_about_an_update() {
    for is_uefi in [true, false] {
        for part in [Part::Update, Part::Keep] {
            let calls = calls(is_uefi, part).await;
            // A slow disk stays slow: one that is so from the first call on is every case.
            let writes = (0..calls.len()).filter(|call| calls[*call].starts_with("write "));
            for (call, fault) in
                std::iter::once((0, Fault::Slow)).chain(writes.map(|call| (call, Fault::Short)))
            {
                let what = format!("UEFI {is_uefi}, {part:?}, {fault:?} at call {call}: {}", calls[call]);
                let (mut world, faults) = before(is_uefi, part, call, fault).await;
                if let Err(error) = work(&world, part).await {
                    panic!("{what}: {error:#}");
                }
                assert!(faults.was_hit(), "{what}");
                faults.clear();
                assert_eq!(world.boot(), "0.2.0", "{what}");
                world.finish(&wanted(), &what).await;
            }
        }
    }
}

#[tokio::test]
async fn a_full_state_partition_is_not_taken_for_a_server_that_is_away() {
    let calls = calls(true, Part::Update).await;
    let call = calls.iter().position(|call| call == "write node.efi").unwrap();
    let (world, _) = before(true, Part::Update, call, Fault::NoSpace).await;
    let error = format!("{:#}", work(&world, Part::Update).await.unwrap_err());
    let folder = world.records().release();
    assert_eq!(
        error,
        format!(
            "cannot fetch and judge release 0.2.0 at {URL}; the state partition is full: see `du -x /state`, and remove what is \
             not needed: {}/node.efi: cannot be kept on the state partition: No space left on device (os error 28)",
            folder.display()
        )
    );
}
