//! A file for 500 machines is checked before the operator looks up: at most 200 ms in release.
//!
//! `cargo test --release -p sheaf-config --test speed -- --nocapture` prints the time and holds it to that.

mod fleet;

use sheaf_config::load::parse_config_file;
use sheaf_fuzz::on_cpu;
use std::time::Duration;

/// Machines in the file.
const MACHINES: usize = 500;
/// What a check may take, optimised.
const BAR: Duration = Duration::from_millis(200);

#[test]
fn a_file_for_five_hundred_machines_is_checked_in_no_time() {
    let text = fleet::fleet(MACHINES);
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
