//! Random changes for tests of what guests, tenants and the network send.
//!
//! Why here: one generator, one clock and one report for the fuzz targets of all crates; a dev-dependency alone. Time is
//! that on the processor, so a busy machine does not make a run shorter. Route in: a target's name and a closure that
//! tries one input. Route out: a panic that names the seed of each input that broke a promise; with `SHEAF_FUZZ_REPORT` a
//! row of a table in that file.
//!
//! | variable | meaning |
//! |---|---|
//! | `SHEAF_FUZZ_SECONDS` | CPU seconds per target (`scripts/fuzz`); without it a moment, for `cargo test` |
//! | `SHEAF_FUZZ_SEED` | seed of the first input; the one that a failure names repeats it |
//! | `SHEAF_FUZZ_REPORT` | file that gets a row per target |

pub mod json;
mod random;

pub use random::Random;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Time of a target in `cargo test`.
const SHORT: Duration = Duration::from_millis(300);
/// Fewest inputs of a target in `cargo test`, where one input takes long.
const FEWEST: u64 = 50;
/// Longest time of one input, unoptimised: the slowest known one takes a tenth.
const SLOW: Duration = Duration::from_secs(20);
/// From this many inputs on at least one must have been accepted: otherwise the changes leave nothing whole, and what
/// comes after the first check is not tried.
const ENOUGH: u64 = 500;
/// A target that failed this often ends: more of the same says nothing new.
const FAILURES: u64 = 10;

/// How long this thread had a processor.
#[must_use]
pub fn on_cpu() -> Duration {
    // proc_pid_schedstat: nanoseconds on the processor, nanoseconds waiting, slices.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.expect("the kernel counts the time of threads (CONFIG_SCHED_INFO)"))
}

/// What a target has done.
#[derive(Default)]
struct Count {
    inputs: u64,
    accepted: u64,
    failures: u64,
    slowest: Duration,
}

/// Calls `try_one` again and again, each time with other numbers. It says whether its input was accepted: read as what it
/// pretends to be. A panic in it, or one input that takes 20 s, is a failure; the others go on, and the target fails at
/// its end.
pub fn fuzz(target: &str, mut try_one: impl FnMut(&mut Random) -> bool) {
    let number = |variable: &str| std::env::var(variable).ok()?.parse::<u64>().ok();
    let first = number("SHEAF_FUZZ_SEED").unwrap_or(1);
    let long = number("SHEAF_FUZZ_SECONDS").map(Duration::from_secs);
    let begin = on_cpu();
    let mut count = Count::default();
    let mut now = begin;
    while count.failures < FAILURES
        && (now - begin < long.unwrap_or(SHORT) || (long.is_none() && count.inputs < FEWEST))
    {
        let seed = first.wrapping_add(count.inputs);
        let result = catch_unwind(AssertUnwindSafe(|| try_one(&mut Random::new(seed))));
        let end = on_cpu();
        let took = end - now;
        now = end;
        count.inputs += 1;
        count.slowest = count.slowest.max(took);
        count.accepted += u64::from(matches!(result, Ok(true)));
        if result.is_err() || took > SLOW {
            count.failures += 1;
            eprintln!("{target}: failed after {took:.1?}; SHEAF_FUZZ_SEED={seed} repeats this");
        }
    }
    let Count { inputs, accepted, failures, slowest } = count;
    let seconds = (now - begin).as_secs();
    let row = format!("| {target} | {inputs} | {accepted} | {seconds} s | {slowest:.0?} | {failures} |\n");
    eprint!("{row}");
    if let Some(path) = std::env::var_os("SHEAF_FUZZ_REPORT") {
        // One write, at the end of the file: targets run at the same time.
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(row.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    assert_eq!(failures, 0, "{target}: inputs that failed, of {inputs}; their seeds are above");
    assert!(accepted > 0 || inputs < ENOUGH, "{target}: none of {inputs} inputs was accepted");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "inputs that failed, of")]
    fn a_target_fails_when_one_input_panics_and_the_others_are_tried() {
        let mut tried = 0;
        fuzz("fails once", |_| {
            tried += 1;
            assert_ne!(tried, 3, "the third");
            true
        });
    }

    #[test]
    #[should_panic(expected = "was accepted")]
    fn a_target_fails_when_nothing_is_accepted() {
        fuzz("accepts nothing", |_| false);
    }
}
