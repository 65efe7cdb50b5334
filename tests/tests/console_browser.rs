//! The console of a node in Chromium, with nothing played: claimed by the code of the node, an image sent in, a machine made of it,
//! its screen and serial port, a snapshot and the way back, the node's journal.
//!
//! Why a whole machine and a real browser: pages are tried against a server that plays the console, and the console against requests
//! like those of pages; that both agree, only the two together show. Route in: `console/web/test/real`, which npm starts. Route out:
//! its exit code; what it said is in the case's log.

use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::console::claimable;
use sheaf_tests::harness::case;
use std::time::Duration;

/// Beside it are pages that another case starts.
const TEST: &str = "test/real/node.test.ts";
/// Longest run of the pages: a guest boots twice under two layers of emulation.
const PAGES: Duration = Duration::from_secs(1500);

#[test]
fn the_pages_of_a_node_do_in_a_browser_what_they_say() {
    case("console-browser", |case| {
        let mut cluster = case.cluster()?;
        let (address, code) = claimable(&mut cluster)?;
        let web = case.root().join("console/web");
        let npm = |args: &[&str]| Command::new("npm").args(args.iter().copied()).dir(&web);
        if !web.join("node_modules").exists() {
            System.run(&npm(&["ci", "--ignore-scripts"]))?;
        }
        let pages = npm(&["exec", "--", "vitest", "run", "--config", "test/real/vitest.config.ts", TEST])
            .env("SHEAF_CONSOLE", &address)
            .env("SHEAF_CODE", &code)
            .env("SHEAF_IMAGE", case.guest_disk()?)
            .env("SHEAF_SCREENSHOT", case.artefacts().join("page.png"))
            .deadline(PAGES);
        println!("{}", System.run(&pages)?.text());
        Ok(())
    });
}
