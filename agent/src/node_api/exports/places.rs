//! How many volumes are read at once for exports.
//!
//! Why here: each takes some 2 MiB and a part of the disk's and the network's time; a namespace with many slow downloads
//! must leave some to others. Route in: a namespace. Route out: a
//! [`Place`](sheaf_https::Place).

use sheaf_https::Places;

/// Most at once.
const ALL: usize = 8;
/// Most at once of one namespace.
const OF_ONE: usize = 4;

/// Of all namespaces.
pub fn places() -> Places<String> {
    Places::new(ALL, OF_ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_leaves_places_to_others_and_gets_its_own_back() {
        let places = places();
        let mut shop: Vec<_> = std::iter::from_fn(|| places.take("shop".into()).ok()).collect();
        assert_eq!(shop.len(), OF_ONE);
        let bank: Vec<_> = std::iter::from_fn(|| places.take("bank".into()).ok()).collect();
        assert_eq!(bank.len(), ALL - OF_ONE);
        assert!(places.take("third".into()).is_err());
        shop.pop();
        assert!(places.take("bank".into()).is_err() && places.take("third".into()).is_ok());
    }
}
