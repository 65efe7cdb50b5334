//! Which of two versions is newer.
//!
//! Why here: systemd-boot starts the newest, so the updater must mean the same by it, and so must the recipe that says which
//! versions may come before a release. Versions of releases are three numbers with a suffix (`0.2.0-rc.1`); a suffix makes a
//! version older than the one without, which the UKI says to systemd-boot by a tilde. Pure.

use std::cmp::Ordering;

/// Whether `text` is a version: three numbers, and a suffix of lowercase letters, digits and dots if it has one.
pub fn is_version(text: &str) -> bool {
    let (numbers, suffix) =
        text.split_once('-').map_or((text, None), |(numbers, suffix)| (numbers, Some(suffix)));
    let number = |part: &str| part.parse::<u32>().is_ok_and(|number| number.to_string() == part);
    let word = |suffix: &str| {
        !suffix.is_empty()
            && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
    };
    numbers.split('.').count() == 3 && numbers.split('.').all(number) && suffix.is_none_or(word)
}

/// Whether `a` is older than, equal to or newer than `b`.
pub fn compare(a: &str, b: &str) -> Ordering {
    let split = |text: &str| match text.split_once('-') {
        Some((numbers, suffix)) => (numbers.to_owned(), Some(suffix.to_owned())),
        None => (text.to_owned(), None),
    };
    let ((a, a_suffix), (b, b_suffix)) = (split(a), split(b));
    parts(&a).cmp(&parts(&b)).then_with(|| match (a_suffix, b_suffix) {
        (Some(a), Some(b)) => parts(&a).cmp(&parts(&b)),
        (None, None) => Ordering::Equal,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    })
}

/// What is between dots; numbers count as numbers and come after words, as systemd compares them.
fn parts(text: &str) -> Vec<(bool, u64, &str)> {
    let part = |part| match str::parse::<u64>(part) {
        Ok(number) => (true, number, ""),
        Err(_) => (false, 0, part),
    };
    text.split('.').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers_and_a_suffix_comes_before_the_release() {
        let ascending =
            ["0.1.0-rc.1", "0.1.0-rc.2", "0.1.0-rc.10", "0.1.0", "0.1.1", "0.9.0", "0.10.0", "1.0.0"];
        for (index, older) in ascending.iter().enumerate() {
            assert_eq!(compare(older, older), Ordering::Equal);
            for newer in &ascending[index + 1..] {
                assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
                assert_eq!(compare(newer, older), Ordering::Greater, "{newer} {older}");
            }
        }
    }
}
