//! Every bad file is refused with exactly the text in the file beside it.
//!
//! Route in: `bad/NAME.toml`. Route out: `bad/NAME.err`; `UPDATE=1 cargo test -p sheaf-config` rewrites them.

mod golden;

use golden::files;
use sheaf_config::load::{config_file, parse_config_file};
use std::path::Path;

/// Messages name the file `node.toml`, as a reader of the .err expects.
fn refusal(path: &Path) -> Option<String> {
    let text = sheaf_config::spanned::text("node.toml", std::fs::read(path).unwrap());
    let read = text.and_then(|text| parse_config_file("node.toml", &text));
    read.err().map(|errors| errors.to_string())
}

#[test]
fn every_bad_file_is_refused_with_exactly_the_text_beside_it() {
    golden::each_is_refused("tests/bad", 150, refusal);
}

#[test]
fn every_example_is_accepted_and_survives_being_written_and_read_again() {
    let files = files("examples");
    assert!(files.len() >= 4);
    for path in files {
        let file = config_file(&path).unwrap_or_else(|errors| panic!("{errors}"));
        for entry in file.entries() {
            let written = entry.config.to_toml().unwrap();
            let again = sheaf_config::load::parse_node_config("written.toml", &written);
            assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{written}")), entry.config);
        }
    }
}

#[test]
fn a_file_of_ten_megabytes_is_refused_by_its_size_and_in_no_time() {
    let path = std::env::temp_dir().join(format!("sheaf-config-{}.toml", std::process::id()));
    std::fs::write(&path, vec![b'#'; 10 << 20]).unwrap();
    let errors = sheaf_config::load::node_config(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    let expected = "file: is larger than 4 MiB; give the config itself, not an image or an archive";
    assert_eq!(errors.to_string(), format!("{}: {expected}", path.display()));
}

#[test]
fn a_hopeless_file_of_half_a_million_mistakes_is_refused_in_no_time() {
    let cases: [(&str, &str); 7] = [
        ("\"\n", "node.toml:1: TOML: invalid basic string, expected `\"` at column 2; correct the line"),
        ("[[a]]\n", "node.toml:1: a: unknown key; known here: "),
        ("[a]\n", "node.toml:2: TOML: duplicate key at column 2; correct the line"),
        ("a\n", "node.toml:1: TOML: key with no value, expected `=` at column 2; correct the line"),
        (
            "a={\n",
            "node.toml:81: TOML: cannot recurse further; max recursion depth met at column 3; correct the line",
        ),
        (
            "x=[\n",
            "node.toml:2: TOML: missing comma between array elements, expected `,` at column 3; correct the line",
        ),
        (
            "é=\n",
            "node.toml:1: TOML: invalid unquoted key, expected letters, numbers, `-`, `_` at column 1; correct the line",
        ),
    ];
    let (sender, receiver) = std::sync::mpsc::channel();
    for (line, _) in cases {
        let (sender, text) = (sender.clone(), line.repeat((1 << 20) / line.len()));
        std::thread::spawn(move || {
            let errors = sheaf_config::load::parse_node_config("node.toml", &text).unwrap_err().to_string();
            sender.send((line, errors.lines().next().unwrap_or_default().to_owned()))
        });
    }
    drop(sender);
    let deadline = std::time::Duration::from_secs(60); // seconds unoptimised; quadratic work would take hours
    let mut refused: Vec<_> = cases.iter().map(|_| receiver.recv_timeout(deadline).unwrap()).collect();
    refused.sort();
    for ((line, refused), (expected_line, first)) in refused.iter().zip(cases) {
        assert_eq!(*line, expected_line);
        assert!(refused.starts_with(first), "{line:?}: {refused}");
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
