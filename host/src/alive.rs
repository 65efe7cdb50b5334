//! Whether a program is alive, seen from another one.
//!
//! Why here: a lock on a file is the kernel's; it ends with its holder, however that ends, and asks no service.
//! Route in: a path both know. Route out: [`Alive`] while we live, or an answer.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// As long as this value lives, [`is_alive`] says yes.
#[derive(Debug)]
pub struct Alive(#[allow(dead_code)] /* the lock lives with it */ File);

/// Declares this program alive.
pub fn declare(path: &Path) -> io::Result<Alive> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    // Blocks for the moment in which somebody asks.
    file.lock()?;
    Ok(Alive(file))
}

/// Whether the program that declares itself at `path` is alive.
pub fn is_alive(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_alive_until_its_declaration_ends() {
        let path = std::env::temp_dir().join(format!("sheaf-alive-{}", std::process::id()));
        assert!(!is_alive(&path));
        let alive = declare(&path).unwrap();
        assert!(is_alive(&path));
        drop(alive);
        assert!(!is_alive(&path));
        std::fs::remove_file(path).unwrap();
    }
}
