//! What the demo prints: each step when it begins, and how long it took.

use std::time::{Duration, Instant};

/// What the demo prints.
pub struct Show {
    begin: Instant,
}

impl Show {
    /// Starts the clock.
    pub fn begin() -> Self {
        println!(
            "Sheaf demo: build, install, boot, join, run a VM. A first run builds everything (up to 40 min), later ones take some minutes."
        );
        Self { begin: Instant::now() }
    }

    /// Does a step.
    pub fn step<T>(&self, what: &str, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        println!("{} {what}", stamp(self.begin.elapsed()));
        let start = Instant::now();
        let result = act();
        let verdict = if result.is_ok() { "done" } else { "FAILED" };
        println!("        {verdict} in {:.1} s", start.elapsed().as_secs_f32());
        if result.is_err() {
            println!("sheaf demo: failed after {} at: {what}", human(self.begin.elapsed()));
        }
        result
    }

    /// A line that belongs to the step.
    pub fn say(&self, line: &str) {
        println!("        {line}");
    }

    /// A line of the installer, when it tells how far it is.
    pub fn installer(&self, line: &str) {
        if is_phase(line) || line.starts_with("Installed ") {
            self.say(line);
        }
    }

    /// How to do the same on a real machine.
    pub fn hardware(&self) {
        println!(
            "\nOn a real machine: make the medium with firmware and microcode, and write it to a USB stick\n    \
             make iso\n    \
             target/release/sheaf usb /dev/sdX --iso target/sheaf/sheaf-metal-0.1.0.iso\n\
             Boot it (UEFI or BIOS) and answer the installer's questions, or put a node.toml on a second drive labelled\n\
             SHEAF-CONF; configs/examples/ has files to start from. docs/hardware.md says what a machine needs.\n"
        );
    }

    /// How to reach a node that continues.
    pub fn reach(&self, kubectl: &str) {
        println!("The node runs until you press Ctrl-C. Look at it:\n    {kubectl}\n");
    }

    /// Where the console is, and the code that makes its first user.
    pub fn console(&self, url: &str, code: &str) {
        println!("The console, with a certificate of its own: {url}\n    code: {code}\n");
    }

    /// Says what broke the machine, and that everything begins again.
    pub fn again(&self, cause: &str) {
        println!("sheaf demo: the machine broke: {cause}\nsheaf demo: trying once more");
    }

    /// The last line.
    pub fn end(&self, what: &str) {
        println!("sheaf demo: {what}; {}", human(self.begin.elapsed()));
    }
}

/// `[3/9] …`: not the kernel's `[    1.234567] …`.
fn is_phase(line: &str) -> bool {
    let inside = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let numbers = inside.and_then(|(inside, _)| inside.split_once('/'));
    numbers.is_some_and(|(number, of)| [number, of].iter().all(|text| text.parse::<u32>().is_ok()))
}

fn stamp(elapsed: Duration) -> String {
    format!("[{:2}:{:02}]", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

fn human(elapsed: Duration) -> String {
    format!("{} min {:02} s", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installers_phases_are_told_from_the_kernels_times() {
        assert!(is_phase("[3/9] Write the root"));
        assert!(!is_phase("[    1.234567] virtio_blk: loaded"));
        assert!(!is_phase("[  OK  ] Reached target"));
    }
}
