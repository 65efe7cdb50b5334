//! Every bad file is refused with exactly the text that stands beside it.
//!
//! Route in: `bad/NAME.toml`. Route out: `bad/NAME.err`; `UPDATE=1 cargo test -p sheaf-config` rewrites them.

use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

/// What a file is refused with. Messages name it `node.toml`, as a reader of the .err expects.
fn refusal(path: &Path) -> String {
    let text = sheaf_config::spanned::text("node.toml", std::fs::read(path).unwrap());
    match text.and_then(|text| sheaf_config::load::parse_node_config("node.toml", &text)) {
        Ok(_) => format!("{}: was accepted", path.display()),
        Err(errors) => format!("{errors}\n"),
    }
}

#[test]
fn every_bad_file_is_refused_with_exactly_the_text_beside_it() {
    let mut wrong = Vec::new();
    for path in files("tests/bad") {
        let (said, golden) = (refusal(&path), path.with_extension("err"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected || said.contains("was accepted") {
            wrong.push(format!("{}\nsaid:\n{said}expected:\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_enough_bad_files_and_each_problem_has_file_path_and_remedy() {
    let files = files("tests/bad");
    assert!(files.len() >= 40, "{} files", files.len());
    for path in files {
        for line in refusal(&path).lines() {
            assert!(line.starts_with("node.toml:") && line.contains("; "), "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_example_is_accepted_and_survives_being_written_and_read_again() {
    let files = files("examples");
    assert!(files.len() >= 4);
    for path in files {
        let config = sheaf_config::load::node_config(&path).unwrap_or_else(|errors| panic!("{errors}"));
        let written = config.to_toml().unwrap();
        let again = sheaf_config::load::parse_node_config("written.toml", &written);
        assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{written}")), config);
    }
}

#[test]
fn a_file_of_ten_megabytes_is_refused_by_its_size_and_in_no_time() {
    let path = std::env::temp_dir().join(format!("sheaf-config-{}.toml", std::process::id()));
    std::fs::write(&path, vec![b'#'; 10 << 20]).unwrap();
    let errors = sheaf_config::load::node_config(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let expected = "file: is larger than 1 MiB; give the config itself, not an image or an archive";
    assert_eq!(errors.to_string(), format!("{}: {expected}", path.display()));
}

#[test]
fn a_hopeless_file_of_half_a_million_mistakes_is_refused_in_no_time() {
    let (sender, receiver) = std::sync::mpsc::channel();
    for line in ["a\n", "x=[\n", "[[a]]\n", "[a]\n", "\"\n", "a={\n", "é=\n"] {
        let (sender, text) = (sender.clone(), line.repeat((1 << 20) / line.len()));
        std::thread::spawn(move || {
            sender.send(sheaf_config::load::parse_node_config("node.toml", &text).is_err())
        });
    }
    drop(sender);
    let deadline = std::time::Duration::from_secs(60); // seconds unoptimised; quadratic work would take hours
    for _ in 0..7 {
        assert!(receiver.recv_timeout(deadline).unwrap());
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = sheaf_config::load::node_config(Path::new("/no/such/node.toml")).unwrap_err();
    assert!(errors.to_string().starts_with("/no/such/node.toml: file: No such file"), "{errors}");
}

#[test]
fn whatever_is_cut_off_or_flipped_in_a_good_file_nothing_panics_and_no_secret_is_quoted() {
    let text = std::fs::read_to_string(files("examples").pop().unwrap()).unwrap() + "\n[[x]]\n";
    let with_token = "version = 1\n[system]\nhostname = \"a\"\n[cluster]\nmode = \"join\"\nserver = \"https://a:6443\"\n\
                      token = \"abcdef.0123456789abcdef\"\nca-hash = \"sha256:x\"\n";
    for text in [text.as_str(), with_token] {
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = changed[at].wrapping_add(1);
            for bytes in [text.as_bytes()[..at].to_vec(), changed] {
                let read = sheaf_config::spanned::text("node.toml", bytes);
                let read = read.and_then(|text| sheaf_config::load::parse_node_config("node.toml", &text));
                if let Err(errors) = read {
                    assert!(!errors.to_string().contains("0123456789"), "{errors}");
                }
            }
        }
    }
}
