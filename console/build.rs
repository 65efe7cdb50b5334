//! Puts the files of the page (`web/dist`, made by `web/build`) into the program.
//!
//! Why here: cargo does not run npm. Without `web/dist` the program has `web/missing.html`, which says what to do. Route in:
//! `web/dist`. Route out: `assets.rs`, a table of `include_bytes!`.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).map(PathBuf::from).map_err(io::Error::other);
    let web = variable("CARGO_MANIFEST_DIR")?.join("web");
    // Of a build of an image, which has made the page elsewhere.
    println!("cargo::rerun-if-env-changed=SHEAF_CONSOLE_PAGE");
    let dist = variable("SHEAF_CONSOLE_PAGE").unwrap_or_else(|_| web.join("dist"));
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed={}", web.join("missing.html").display());
    let mut files = Vec::new();
    walk(&dist, &mut files)?;
    // Sorted, so that the same files make the same program.
    files.sort();
    let mut table: Vec<(String, PathBuf, Option<PathBuf>)> = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_none_or(|end| end != "gz")) {
        let name = file.strip_prefix(&dist).map_err(io::Error::other)?.display().to_string();
        let packed = PathBuf::from(format!("{}.gz", file.display()));
        table.push((format!("/{name}"), file.clone(), Some(packed).filter(|packed| packed.exists())));
    }
    if !table.iter().any(|(path, _, _)| path == "/index.html") {
        table = vec![("/index.html".into(), web.join("missing.html"), None)];
    }
    let mut text = String::from("/// What there is.\nstatic FILES: &[File] = &[\n");
    for (path, file, packed) in table {
        let mut hasher = DefaultHasher::new();
        std::fs::read(&file)?.hash(&mut hasher);
        let packed = packed.map_or("None".to_owned(), |packed| format!("Some(include_bytes!({packed:?}))"));
        let line = format!(
            "    File {{ path: {path:?}, plain: include_bytes!({file:?}), packed: {packed}, etag: \"\\\"{:016x}\\\"\" }},",
            hasher.finish()
        );
        writeln!(text, "{line}").map_err(io::Error::other)?;
    }
    text.push_str("];\n");
    std::fs::write(variable("OUT_DIR")?.join("assets.rs"), text)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => walk(&path, files)?,
            // .gitkeep, which keeps the folder there.
            false if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) => {}
            false => files.push(path),
        }
    }
    Ok(())
}
