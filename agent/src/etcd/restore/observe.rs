//! What a restore is judged by.
//!
//! Route in: the file or the name that was given, etcd, the node's files. Route out: [`Facts`]; the data is verified
//! and in a file that etcdutl can read. Blocks.

use super::plan::Facts;
use crate::encryption::keys::Ring;
use crate::etcd::archive;
use crate::etcd::keys::Keys;
use crate::etcd::program::{self, Contents, Etcd};
use crate::etcd::store::{Store, verify};
use crate::etcd::take::ca_hash;
use crate::paths::Paths;
use anyhow::{Context as _, ensure};
use sheaf_host::run::Run;
use sheaf_host::space;
use std::path::Path;

/// Name of the data that was taken out of a file, in the folder of snapshots.
const PART: &str = "restore";

/// All of it; `keys` are those that were given.
pub fn observe(run: &dyn Run, paths: &Paths, file: &str, keys: Option<&Keys>) -> anyhow::Result<Facts> {
    let store = Store::of(paths);
    let listed = store.list().with_context(|| format!("{}: cannot be read", store.dir().display()))?;
    let named = listed.into_iter().find(|snapshot| snapshot.name == file);
    let (snapshot, data) = match named {
        Some(snapshot) => {
            let data = store.data(&snapshot.name);
            let (_, sha256) = verify(&data)?;
            ensure!(
                sha256 == snapshot.sha256,
                "{}: its data does not have the SHA-256 that was noted when it was taken: it is damaged; take another one",
                data.display()
            );
            (Some(snapshot), data)
        }
        None => {
            ensure!(
                Path::new(file).exists(),
                "{file} is neither a file nor a snapshot on this node; `sheaf-agent snapshot list` shows those"
            );
            store.prepare().with_context(|| format!("{}: cannot be made", store.dir().display()))?;
            let part =
                store.part(PART).with_context(|| format!("{}: cannot be written", store.dir().display()))?;
            (archive::read(Path::new(file), &part)?, part)
        }
    };
    let contents = run
        .run(&program::contents(&data))
        .context("etcdutl cannot read the snapshot; it may be of a newer etcd, or damaged")?;
    let contents = Contents::parse(&contents.text())?;
    let own_version = program::own_version(&run.run(&program::version())?.text())?;
    // An etcd that is gone or broken is what snapshots are for.
    let members = run.run(&Etcd::of(paths).members()).ok();
    let members =
        members.and_then(|output| program::members(&output.text()).ok()).map(|members| members.len());
    let bytes = std::fs::metadata(&data).map_or(0, |meta| meta.len());
    let state = paths.etcd.parent().unwrap_or(&paths.etcd);
    let free = space::free(state).with_context(|| format!("{}: cannot be read", state.display()))?;
    let own: Vec<String> =
        Ring::load(paths)?.map(|ring| ring.all().map(|key| key.name.clone()).collect()).unwrap_or_default();
    let given = keys.map(Keys::encryption_keys).unwrap_or_default();
    // Keys of another cluster take the place of this node's; of the same cluster, they are added.
    let same = keys.is_none_or(|keys| Some(&keys.ca_hash) == ca_hash(paths).as_ref());
    let needed = snapshot.as_ref().map(|snapshot| snapshot.encryption_keys.clone()).unwrap_or_default();
    let missing = |name: &String| !(given.contains(name) || same && own.contains(name));
    let missing_keys = needed.into_iter().filter(missing).collect();
    let adds_keys = same && given.iter().any(|name| !own.contains(name));
    Ok(Facts {
        missing_keys,
        adds_keys,
        file: file.to_owned(),
        snapshot,
        data: Some(data),
        revision: contents.revision,
        storage_version: contents.storage_version,
        own_version,
        ca_hash: ca_hash(paths),
        keys: keys.map(|keys| keys.ca_hash.clone()),
        members,
        bytes,
        free,
    })
}
