//! Whatever a server that is not yet known answers for cluster-info, nothing panics or hangs, and nothing passes for signed
//! that is not.
//!
//! Route in: a true cluster-info, changed at random. Route out: the first input that breaks a promise, with the seed that
//! leads there. A second in `cargo test`; `scripts/fuzz MINUTES` continues for longer. Time is that on the processor.

mod cpu;

use cpu::on_cpu;
use sheaf_config::cluster_info::ClusterInfo;
use std::time::Duration;

/// How long one input may take unoptimised.
const SLOW: Duration = Duration::from_secs(2);
/// In the form that kubeadm gives it, signed for the token below.
const INFO: &str = include_str!("cluster-info.json");
const ID: &str = "abcdef";
const SECRET: &str = "0123456789abcdef";
/// What the format is made of.
const WORDS: [&str; 14] = [
    "..",
    "jws-kubeconfig-abcdef",
    "kubeconfig",
    "clusters",
    "\\n",
    "- ",
    ": ",
    "&a ",
    "*a",
    "{",
    "[",
    "\\u0000",
    "null",
    "certificate-authority-data",
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % end.max(1)
    }
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + random.below(200)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
    }
}

#[test]
fn no_answer_panics_the_parser_or_passes_for_signed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds: u64 = number("SHEAF_FUZZ_SECONDS").unwrap_or(1);
    let seed = number("SHEAF_FUZZ_SEED").unwrap_or(0x5eaf_1f0a);
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let original = ClusterInfo::parse(INFO.as_bytes()).unwrap();
    original.verify(ID, SECRET).unwrap();
    original.ca().unwrap();
    let (begun, mut inputs, mut read) = (on_cpu(), 0_u64, 0_u64);
    while on_cpu() - begun < Duration::from_secs(seconds) {
        let mut bytes = INFO.as_bytes().to_vec();
        change(&mut bytes, &mut random);
        let before = on_cpu();
        if let Ok(info) = ClusterInfo::parse(&bytes) {
            read += 1;
            let _ = info.ca();
            if info.verify(ID, SECRET).is_ok() {
                assert_eq!(info.kubeconfig, original.kubeconfig, "{}", String::from_utf8_lossy(&bytes));
            }
        }
        assert!(on_cpu() - before < SLOW, "slow: {}", String::from_utf8_lossy(&bytes));
        inputs += 1;
    }
    println!("{inputs} answers, {read} of them a ConfigMap");
    assert!(read > 0, "nothing that was changed could be read: nothing was tried");
}
