//! Each status document gives exactly the page that are beside it, and every page fits its screen.
//!
//! Route in: `page/NAME.json`. Route out: `page/NAME.txt`; `UPDATE=1 cargo test -p sheaf-agent --test page` rewrites.

use sheaf_agent::console::{HEIGHT, View, WIDTH, page};
use sheaf_agent::status::{ImageSection, Status, VmSection};
use std::path::Path;

fn view(status: Status) -> View {
    // Shown where the cluster can be claimed.
    let code = status.console.claim.is_some().then(|| "7K3M-9QXA".to_owned());
    View { status: Some(status), silent_for: None, code }
}

#[test]
fn each_status_gives_exactly_the_page_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    cases.sort();
    assert!(cases.len() >= 5, "{} cases", cases.len());
    for case in cases {
        let status: Status = serde_json::from_slice(&std::fs::read(&case).unwrap()).unwrap();
        let lines = page(&view(status), WIDTH, HEIGHT);
        assert!(lines.len() <= HEIGHT, "{} has {} lines", case.display(), lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{}: {lines:#?}", case.display());
        let (text, golden) = (lines.join("\n") + "\n", case.with_extension("txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
    }
}

#[test]
fn a_hundred_vms_and_images_fit_the_screen_and_what_is_left_out_is_counted() {
    let mut status = Status::default();
    for number in 0..100 {
        status.vms.push(VmSection {
            name: format!("default/vm-{number}"),
            phase: "Running".into(),
            ..VmSection::default()
        });
        status.images.push(ImageSection {
            name: format!("image-{number}"),
            phase: "present".into(),
            ..ImageSection::default()
        });
    }
    let lines = page(&view(status), WIDTH, HEIGHT);
    assert!(lines.len() <= HEIGHT);
    assert!(lines.iter().any(|line| line.ends_with("more VMs")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("more Images")), "{lines:#?}");
    assert!(lines.last().unwrap().contains("[cluster]"), "{lines:#?}");
}

#[test]
fn words_from_elsewhere_can_not_move_the_cursor() {
    let mut status = Status::default();
    status.cluster.problem = Some("\x1b[2J\nowned".into());
    assert!(page(&view(status), WIDTH, HEIGHT).iter().all(|line| !line.contains(|c: char| c.is_control())));
}

#[test]
fn a_node_without_an_agent_is_told_apart_from_one_that_starts() {
    let never = page(&View { silent_for: Some(std::time::Duration::ZERO), ..View::default() }, WIDTH, HEIGHT)
        .join("\n");
    assert!(
        never.contains("The agent is not running. ") && never.contains("has not reported since this boot"),
        "{never}"
    );
    let hours = std::time::Duration::from_secs(3 * 3600);
    let dead = page(&View { silent_for: Some(hours), ..view(Status::default()) }, WIDTH, HEIGHT).join("\n");
    assert!(dead.contains("last report 3 h ago"), "{dead}");
}
