//! Copies of what firmware and TPM of a VM keep: one for each snapshot of the VM that has any.
//!
//! Why here: the state of a VM is in a folder of its node, and so is the copy, beside it: no other namespace reaches it, and no
//! AppArmor profile opens it to a VM. Route in: the folder of a namespace below `/data/state`, the UUID of a domain, the UID of
//! a snapshot. Route out: `snapshot-<uid>/` there, and from it the state of a VM again.

use super::guest::state_folder;
use sheaf_host::folder::{self, CopyError};
use std::path::{Path, PathBuf};

/// Bytes that a state may have: UEFI variables are 528 KiB, a TPM some KiB.
const MOST: u64 = 16 << 20;

/// Why a state is not put back.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It was never copied here, or was removed.
    #[error("{}: there is no copy of UEFI variables and TPM of this snapshot", .0.display())]
    NoCopy(PathBuf),
    /// It was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

fn copy_folder(namespace: &Path, snapshot: &str) -> PathBuf {
    namespace.join(format!("snapshot-{snapshot}"))
}

/// Copies the state of domain `uuid` for `snapshot`, instead of what was copied for it before. Of a VM that never ran there is
/// none, and the copy is empty.
pub fn save(namespace: &Path, uuid: &str, snapshot: &str) -> Result<(), CopyError> {
    folder::replace_by_copy(&state_folder(namespace, uuid), &copy_folder(namespace, snapshot), MOST)
}

/// Makes the state of domain `uuid`, which does not run, what it was for `snapshot`.
pub fn load(namespace: &Path, uuid: &str, snapshot: &str) -> Result<(), LoadError> {
    let copy = copy_folder(namespace, snapshot);
    if !copy.is_dir() {
        return Err(LoadError::NoCopy(copy));
    }
    Ok(folder::replace_by_copy(&copy, &state_folder(namespace, uuid), MOST)?)
}

/// Removes what was copied for `snapshot`.
pub fn remove(namespace: &Path, snapshot: &str) -> Result<(), CopyError> {
    folder::remove(&copy_folder(namespace, snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_state_is_copied_changed_put_back_and_given_to_another_vm() {
        let root = tempfile::tempdir().unwrap();
        let variables = |uuid: &str| state_folder(root.path(), uuid).join("nvram.fd");
        fs::create_dir_all(state_folder(root.path(), "u1")).unwrap();
        fs::write(variables("u1"), b"monday").unwrap();
        save(root.path(), "u1", "s1").unwrap();
        fs::write(variables("u1"), b"tuesday").unwrap();
        load(root.path(), "u1", "s1").unwrap();
        load(root.path(), "u2", "s1").unwrap();
        assert_eq!(fs::read(variables("u1")).unwrap(), b"monday");
        assert_eq!(fs::read(variables("u2")).unwrap(), b"monday");
        remove(root.path(), "s1").unwrap();
        let error = load(root.path(), "u1", "s1").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{}: there is no copy of UEFI variables and TPM of this snapshot",
                root.path().join("snapshot-s1").display()
            )
        );
        assert_eq!(fs::read(variables("u1")).unwrap(), b"monday", "what is there stays");
        remove(root.path(), "s1").unwrap();
    }
}
