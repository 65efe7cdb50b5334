//! `sheaf-agent snapshot` and `sheaf-agent etcd`: what an administrator asks for on a control-plane node.
//!
//! Why not over the agent: a snapshot is also wanted when the agent does not run. The folder of snapshots needs no
//! lock: each has a name of its own until it is whole. Route in: arguments. Route out: what was done, in words.

use super::archive::{self, create};
use super::keys::Keys;
use super::program::Etcd;
use super::store::{Reason, Snapshot, Store};
use super::take::{health, take};
use super::{report, store};
use crate::human::binary;
use crate::paths::Paths;
use anyhow::{Context as _, bail, ensure};
use sheaf_config::node::{NodeConfig, Role};
use sheaf_host::file::rename_durably;
use sheaf_host::run::Run;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

/// A path that means standard output.
const STDOUT: &str = "-";

/// Refuses on a node without etcd.
pub fn is_of_the_control_plane(config: &NodeConfig) -> anyhow::Result<()> {
    let role = config.cluster.as_ref().map(sheaf_config::node::Cluster::role);
    ensure!(
        role == Some(Role::ControlPlane),
        "this node has no etcd: run this on a control-plane node (kubectl get nodes -l node-role.kubernetes.io/control-plane)"
    );
    Ok(())
}

/// Takes a snapshot on this node.
pub fn take_one(paths: &Paths, run: &dyn Run, node: &str) -> anyhow::Result<String> {
    let snapshot = take(paths, run, node, Reason::Request, SystemTime::now())?;
    let Snapshot { name, revision, keys, bytes, .. } = &snapshot;
    let file = Store::of(paths).data(name);
    Ok(format!("{name}: revision {revision}, {keys} keys, {} in {}\n", binary(*bytes), file.display()))
}

/// The snapshots on this node, in columns or as JSON.
pub fn list(paths: &Paths, as_json: bool) -> anyhow::Result<String> {
    let store = Store::of(paths);
    let found = store
        .list()
        .with_context(|| format!("{}: cannot be read; run this as root", store.dir().display()))?;
    match as_json {
        true => Ok(serde_json::to_string_pretty(&found)? + "\n"),
        false => Ok(report::table(&found)),
    }
}

/// Writes the snapshot `name`, or one that is taken now, to one file, or to standard output for `-`. What to say on
/// standard error.
pub fn save(
    paths: &Paths,
    run: &dyn Run,
    node: &str,
    name: Option<&str>,
    to: &str,
) -> anyhow::Result<String> {
    refuse_terminal(to)?;
    let store = Store::of(paths);
    let snapshot = match name {
        None => take(paths, run, node, Reason::Request, SystemTime::now())?,
        Some(name) => {
            let found = store.list()?.into_iter().find(|snapshot| snapshot.name == name);
            let Some(found) = found else {
                bail!("no snapshot {name} is on this node; `sheaf-agent snapshot list` shows those that are");
            };
            found
        }
    };
    let data = store.data(&snapshot.name);
    store::verify(&data)?;
    write(to, |file| archive::write(file, &snapshot, &data))?;
    Ok(format!(
        "{}: revision {}, written to {}. It holds all that the cluster knows; its Secrets are encrypted, all else is not: keep it \
         where few may read it. On another machine the keys of the cluster are needed too: sheaf-agent snapshot save-keys",
        snapshot.name,
        snapshot.revision,
        shown(to)
    ))
}

/// Writes the keys of the cluster to one file, or to standard output for `-`. What to say on standard error.
pub fn save_keys(paths: &Paths, to: &str) -> anyhow::Result<String> {
    refuse_terminal(to)?;
    let text = Keys::collect(paths)?.text()?;
    write(to, |file| file.write_all(text.as_bytes()))?;
    Ok(format!(
        "the keys of the cluster are written to {}. Who has them is an administrator of the cluster: keep them apart from \
         snapshots, encrypted. Save them again after `sheaf-agent encryption rotate`",
        shown(to)
    ))
}

fn shown(to: &str) -> &str {
    if to == STDOUT { "standard output" } else { to }
}

fn refuse_terminal(to: &str) -> anyhow::Result<()> {
    ensure!(
        to != STDOUT || !io::stdout().is_terminal(),
        "standard output is a terminal; send it to a file or a program: ssh root@NODE sheaf-agent snapshot save - > FILE"
    );
    Ok(())
}

/// Writes `to` whole or not at all, readable by its owner alone.
fn write(to: &str, contents: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> anyhow::Result<()> {
    if to == STDOUT {
        let mut out = io::stdout().lock();
        return contents(&mut out).and_then(|()| out.flush()).context("standard output: cannot be written");
    }
    let path = Path::new(to);
    let name = path.file_name().with_context(|| format!("{to}: is not a file"))?.to_string_lossy();
    let part = path.with_file_name(format!(".{name}.part"));
    let written = create(&part).and_then(|mut file| {
        contents(&mut file)?;
        file.sync_all()
    });
    if let Err(error) = written {
        // What is there is not a whole file.
        let _ = std::fs::remove_file(&part);
        return Err(error).with_context(|| format!("{to}: cannot be written"));
    }
    // A file in the working directory has a parent that is no path.
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(_) => Ok(rename_durably(&part, path)?),
        None => Ok(rename_durably(&Path::new(".").join(&part), &Path::new(".").join(path))?),
    }
}

/// How etcd of this node is.
pub fn status(paths: &Paths, run: &dyn Run) -> anyhow::Result<String> {
    Ok(report::text(&health(&Etcd::of(paths), run)?))
}

/// Gives free pages of the database back now.
pub fn defragment(paths: &Paths, run: &dyn Run) -> anyhow::Result<String> {
    let etcd = Etcd::of(paths);
    let before = health(&etcd, run)?;
    run.run(&etcd.defragment())?;
    let after = health(&etcd, run)?;
    Ok(format!("the database had {}, and has {} now\n", binary(before.size), binary(after.size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::keys::tests::make;
    use crate::etcd::testing::FakeEtcd;
    use sheaf_config::load::parse_node_config;
    use std::os::unix::fs::PermissionsExt as _;

    fn node() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        make(&paths);
        (root, paths)
    }

    #[test]
    fn a_snapshot_is_taken_listed_and_saved_to_one_file_for_its_owner_alone() {
        let (root, paths) = node();
        let etcd = FakeEtcd::default();
        let taken = take_one(&paths, &etcd, "n1").unwrap();
        let name = taken.split(':').next().unwrap().to_owned();
        assert!(taken.contains(": revision 810, 300 keys, 544 bytes in "), "{taken}");
        assert!(list(&paths, false).unwrap().contains(&name));
        let listed: Vec<Snapshot> = serde_json::from_str(&list(&paths, true).unwrap()).unwrap();
        assert_eq!((listed[0].name.as_str(), listed[0].reason), (name.as_str(), Reason::Request));
        let to = root.path().join("away.tar");
        let said = save(&paths, &etcd, "n1", Some(&name), to.to_str().unwrap()).unwrap();
        assert!(said.starts_with(&format!("{name}: revision 810, written to {}", to.display())), "{said}");
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!root.path().join(".away.tar.part").exists());
        let out = root.path().join("out");
        assert_eq!(archive::read(&to, &out).unwrap().unwrap().name, name);
    }

    #[test]
    fn a_name_that_is_not_there_and_a_place_that_cannot_be_written_are_named() {
        let (root, paths) = node();
        let etcd = FakeEtcd::default();
        let to = root.path().join("away.tar");
        assert_eq!(
            save(&paths, &etcd, "n1", Some("etcd-x"), to.to_str().unwrap()).unwrap_err().to_string(),
            "no snapshot etcd-x is on this node; `sheaf-agent snapshot list` shows those that are"
        );
        let nowhere = root.path().join("nowhere/away.tar");
        let error = save(&paths, &etcd, "n1", None, nowhere.to_str().unwrap()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: cannot be written", nowhere.display()));
    }

    #[test]
    fn the_keys_are_saved_apart() {
        let (root, paths) = node();
        let to = root.path().join("keys.json");
        let said = save_keys(&paths, to.to_str().unwrap()).unwrap();
        assert!(said.contains("keep them apart from snapshots"), "{said}");
        assert!(Keys::read(&to).unwrap() == Keys::collect(&paths).unwrap());
    }

    #[test]
    fn a_worker_is_told_where_etcd_is() {
        let of = |cluster: &str| {
            let text = format!("version = 1\nsystem.hostname = \"n1\"\n{cluster}");
            is_of_the_control_plane(&parse_node_config("node.toml", &text).unwrap())
        };
        assert!(of("[cluster]\nmode = \"create\"").is_ok());
        assert_eq!(
            of("").unwrap_err().to_string(),
            "this node has no etcd: run this on a control-plane node (kubectl get nodes -l \
             node-role.kubernetes.io/control-plane)"
        );
    }

    #[test]
    fn a_defragmentation_on_request_says_what_it_gained() {
        let (_root, paths) = node();
        let etcd = FakeEtcd::default();
        assert_eq!(defragment(&paths, &etcd).unwrap(), "the database had 4 MiB, and has 4 MiB now\n");
        assert_eq!(etcd.asked(), ["defrag"]);
        assert!(status(&paths, &etcd).unwrap().contains("free      25 % of the database\n"));
    }
}
