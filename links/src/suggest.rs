//! What the author of a misspelt word most likely meant.
//!
//! Route in: the word, the known ones. Route out: one of them, or none when all are too far away.

/// Keys are short; a pasted paragraph as a key shall not cost quadratic time. In characters.
const LONGEST: usize = 64;

/// Of `known`, what the author of `word` most likely meant.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let normal = |text: &str| text.to_lowercase().replace('_', "-").chars().take(LONGEST).collect::<String>();
    let word = normal(word);
    let distance = |known: &'k str| (strsim::osa_distance(&word, &normal(known)), known);
    let nearest = known.into_iter().map(distance).min()?;
    // A third of the letters may differ: enough for two slips in a long key, too little to turn `dns` into `ntp`.
    (nearest.0 <= (word.chars().count().max(nearest.1.len()) / 3).max(1)).then_some(nearest.1)
}
