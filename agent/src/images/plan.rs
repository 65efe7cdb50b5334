//! Which image is brought next.
//!
//! Pure. Route in: what node.toml lists, what is verified, what failed a moment ago, what is under way. Route out: an image.

use sheaf_config::node::Image;
use std::collections::BTreeSet;

/// What an image is known by: another URL or hash under the same name is a different image.
pub(super) type Key = (String, String, String);

/// The key of `image`.
pub(super) fn key(image: &Image) -> Key {
    (image.name.clone(), image.url.clone(), image.sha256.clone())
}

/// The first that is neither verified nor waiting for its next try; none while another is under way: they share one uplink
/// and one disk.
pub(super) fn plan<'a>(
    wanted: &'a [Image],
    verified: &BTreeSet<Key>,
    is_waiting: impl Fn(&Key) -> bool,
    is_busy: bool,
) -> Option<&'a Image> {
    let is_due = |image: &&Image| !verified.contains(&key(image)) && !is_waiting(&key(image));
    wanted.iter().find(is_due).filter(|_| !is_busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_one_after_another_and_one_that_failed_does_not_keep_the_next_waiting() {
        let image =
            |name: &str, sha256: &str| Image { name: name.into(), url: "u".into(), sha256: sha256.into() };
        let wanted = [image("a", "1"), image("b", "1"), image("c", "1")];
        let next = |verified: &[Image], waiting: &[Image], is_busy| {
            let verified = verified.iter().map(key).collect();
            let waiting: BTreeSet<_> = waiting.iter().map(key).collect();
            plan(&wanted, &verified, |key| waiting.contains(key), is_busy).map(|image| image.name.as_str())
        };
        assert_eq!(next(&[], &[], false), Some("a"));
        assert_eq!(next(&[], &[], true), None);
        assert_eq!(next(&wanted[..1], &wanted[1..2], false), Some("c"));
        assert_eq!(next(&wanted, &[], false), None);
        assert_eq!(next(&[image("a", "2")], &[], false), Some("a"), "a new hash is a new image");
    }

    proptest::proptest! {
        #[test]
        fn the_next_image_is_wanted_and_due_and_there_is_one_whenever_one_is_due_and_none_under_way(
            wanted in proptest::collection::vec((0..4_u8, 0..2_u8), 0..6),
            verified in proptest::collection::btree_set((0..4_u8, 0..2_u8), 0..6),
            waiting in proptest::collection::btree_set((0..4_u8, 0..2_u8), 0..6),
            is_busy: bool,
        ) {
            let image = |(name, sha256): &(u8, u8)| {
                Image { name: name.to_string(), url: "u".into(), sha256: sha256.to_string() }
            };
            let images: Vec<_> = wanted.iter().map(image).collect();
            let keys = |set: &BTreeSet<(u8, u8)>| set.iter().map(|of| key(&image(of))).collect::<BTreeSet<_>>();
            let (verified, waiting) = (keys(&verified), keys(&waiting));
            let due = |image: &&Image| !verified.contains(&key(image)) && !waiting.contains(&key(image));
            match plan(&images, &verified, |key| waiting.contains(key), is_busy) {
                Some(next) => proptest::prop_assert!(!is_busy && due(&next) && images.contains(next)),
                None => proptest::prop_assert!(is_busy || !images.iter().any(|image| due(&image))),
            }
        }
    }
}
