//! The console of a node in Chromium, with nothing played: claimed by the code of the node, an image sent in, a machine made of it,
//! its screen and serial port, a snapshot and the way back, the node's journal.
//!
//! Why a whole machine and a real browser: pages are tried against a server that plays the console, and the console against requests
//! like those of pages; that both agree, only the two together show. What needs no guest is shown by `console_pages.rs`. Route in:
//! `console/web/test/real/node.test.ts`, which npm starts. Route out: its exit code; what it said is in the case's log.

use sheaf_tests::console::claimable;
use sheaf_tests::harness::case;
use sheaf_tests::pages::Pages;
use std::time::Duration;

/// Longest run of the pages: a guest boots twice under two layers of emulation.
const PAGES: Duration = Duration::from_secs(1500);

#[test]
fn the_pages_of_a_node_do_in_a_browser_what_they_say() {
    case("console-browser", |case| {
        let mut cluster = case.cluster()?;
        let (address, code) = claimable(&mut cluster)?;
        let pages = Pages::of(case.root(), &address, &case.artefacts())?;
        pages.given("SHEAF_CODE", code).given("SHEAF_IMAGE", case.guest_disk()?).run("node.test.ts", PAGES)
    });
}
