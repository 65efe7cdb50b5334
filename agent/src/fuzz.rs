//! Random changes for tests of what guests, tenants and the network influence.
//!
//! Why here: one generator and one clock for all such tests of the agent. A tenth of a second in `cargo test`; with
//! SHEAF_FUZZ_SECONDS as long as that (`scripts/fuzz`). SHEAF_FUZZ_SEED repeats a run. Route in: a test's closure. Route out:
//! a panic that names the seed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Time of a test unless SHEAF_FUZZ_SECONDS says otherwise.
const SHORT: Duration = Duration::from_millis(100);

/// xorshift64*: random enough to change bytes, and the same again from the same seed.
pub struct Random(u64);

impl Random {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        (self.next() >> 24) as u8
    }
}

/// Calls `test` again and again, each time with another seed.
pub fn for_a_while(name: &str, mut test: impl FnMut(&mut Random)) {
    let number = |variable: &str| std::env::var(variable).ok()?.parse::<u64>().ok();
    let first = number("SHEAF_FUZZ_SEED").unwrap_or(1);
    let time = number("SHEAF_FUZZ_SECONDS").map_or(SHORT, Duration::from_secs);
    let (begun, mut inputs) = (Instant::now(), 0_u64);
    while inputs == 0 || begun.elapsed() < time {
        let seed = first.wrapping_add(inputs);
        // Seeds that differ in one bit begin alike: mixed first. 0 would stay 0.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut random))) {
            eprintln!("{name}: SHEAF_FUZZ_SEED={seed} repeats this");
            resume_unwind(panic);
        }
        inputs += 1;
    }
    eprintln!("{name}: {inputs} inputs in {:.0?}", begun.elapsed());
}
