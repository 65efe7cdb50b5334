//! A file for many machines, as a provisioning system would write it.
//!
//! Why here: the test of the validator's speed and `make bench`, which measures the command, check the very same file.

use std::fmt::Write as _;

/// The example for fleets with `machines` machines.
pub fn fleet(machines: usize) -> String {
    let common = include_str!("../../examples/fleet.toml")
        .split("# Takes everything as it is")
        .next()
        .unwrap_or_default();
    let mut text = common.to_owned();
    for number in 0..machines {
        let (high, low) = (number / 250, number % 250 + 1);
        // Writing to a String does not fail.
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
