//! How many volumes are read at once for exports.
//!
//! Why here: each takes some 2 MiB and a part of the disk's and the network's time; a namespace with many slow downloads
//! must leave some to others. Route in: a namespace. Route out: a [`Place`]; dropped, it is free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most at once.
const ALL: usize = 8;
/// Most at once of one namespace.
const OF_ONE: usize = 4;

/// How many each namespace has.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// The right to read.
pub struct Place {
    places: Places,
    namespace: String,
}

impl Places {
    /// One for `namespace`, if there is one left.
    pub fn take(&self, namespace: &str) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (taken.values().sum::<usize>(), taken.get(namespace).copied().unwrap_or_default());
        if all >= ALL || own >= OF_ONE {
            return None;
        }
        taken.insert(namespace.to_owned(), own + 1);
        Some(Place { places: self.clone(), namespace: namespace.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.namespace) {
            *own = own.saturating_sub(1);
        }
        taken.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_leaves_places_to_others_and_gets_its_own_back() {
        let places = Places::default();
        let mut shop: Vec<_> = std::iter::from_fn(|| places.take("shop")).collect();
        assert_eq!(shop.len(), OF_ONE);
        let bank: Vec<_> = std::iter::from_fn(|| places.take("bank")).collect();
        assert_eq!(bank.len(), ALL - OF_ONE);
        assert!(places.take("third").is_none());
        shop.pop();
        assert!(places.take("bank").is_none() && places.take("third").is_some());
    }
}
