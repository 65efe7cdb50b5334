//! A file for 500 machines is checked before the operator looks up: at most 200 ms in release.
//!
//! `cargo test --release -p sheaf-config --test speed -- --nocapture` prints the time and holds it to that.

use sheaf_config::load::parse_config_file;
use std::fmt::Write as _;
use std::time::Duration;

/// Machines in the file.
const MACHINES: usize = 500;
/// What a check may take, optimised.
const BAR: Duration = Duration::from_millis(200);

fn fleet() -> String {
    let common = include_str!("../examples/fleet.toml").split("# Takes everything as it is").next().unwrap();
    let mut text = common.to_owned();
    for number in 0..MACHINES {
        let (high, low) = (number / 250, number % 250 + 1);
        let _ = writeln!(
            text,
            "[[node]]\nmatch = {{ serial = \"CZJ{number:05}\", mac = \"52:54:00:00:{high:02x}:{low:02x}\" }}\n\
             system.hostname = \"node-{number}\"\ninstall.disk = {{ serial = \"S6B{number:05}\" }}\n\
             install.wipe = \"S6B{number:05}\"\n\n[[node.network.bridge]]\nname = \"br0\"\n\
             addresses = [\"10.1.{high}.{low}/16\", \"2001:db8::{high:x}:{low:x}/64\"]\ngateway = \"10.1.255.254\"\n\n\
             [node.cluster]\nlabels = {{ rack = \"r{}\", \"topology.kubernetes.io/zone\" = \"room-{}\" }}\n",
            number / 20,
            number / 250
        );
    }
    text
}

/// Time this thread had a processor: a busy machine does not make the check slower.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_file_for_five_hundred_machines_is_checked_in_no_time() {
    let text = fleet();
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let begin = on_cpu();
            let file = parse_config_file("fleet.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(file.entries().len(), MACHINES);
            on_cpu() - begin
        })
        .collect();
    times.sort();
    println!(
        "{MACHINES} machines, {} KiB: {:?} (median of 5, {:?} to {:?})",
        text.len() >> 10,
        times[2],
        times[0],
        times[4]
    );
    if !cfg!(debug_assertions) {
        assert!(times[0] <= BAR, "{times:?}");
    }
}
