//! Numbers that look random and are the same again from the same seed; changes of bytes.

/// xorshift64*: random enough to change bytes.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Seeds that differ in one bit begin alike: mixed first (splitmix64). 0 would stay 0.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)] // an iterator that never ends is no use here
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

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `list`, which is not empty.
    pub fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// A number as programs get wrong: small, near a power of two, or any.
    pub fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next() % 8,
            1 => (1_u64 << self.below(64)).wrapping_add(self.next() % 3).wrapping_sub(1),
            2 => u64::MAX - self.next() % 3,
            _ => self.next() >> self.below(64),
        }
    }

    /// Up to six changes: a bit or byte is another, a piece is gone, doubled or put in from `words`, the end is cut off.
    pub fn change(&mut self, bytes: &mut Vec<u8>, words: &[&str]) {
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(40)).min(bytes.len());
            match self.below(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.byte(),
                2 => bytes.insert(at, self.byte()),
                3 => drop(bytes.drain(at..end)),
                4 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                5 if self.once_in(4) => bytes.truncate(at),
                _ if words.is_empty() => drop(bytes.drain(at..end.min(at + 1))),
                _ => drop(bytes.splice(at..at, self.of(words).bytes())),
            }
        }
    }

    /// `text` after such changes, as the text that its reader gets.
    pub fn changed(&mut self, text: &str, words: &[&str]) -> String {
        let mut bytes = text.as_bytes().to_vec();
        self.change(&mut bytes, words);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
