//! Places: at most so many at once of all, and of each.
//!
//! Why here: one address, namespace or user must leave some to others, wherever a program hands out what is bounded. Route in: whose it
//! is to be. Route out: a [`Place`]; dropped, it is free.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Places of all, by whose they are.
#[derive(Clone, Debug)]
pub struct Places<K> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    all: usize,
    of_one: usize,
}

/// One of them; dropped, it is free.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Places<K>,
    of: K,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// Those of the one who asks are.
    OfOne,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// `all` at once, of which one has at most `of_one`.
    pub fn new(all: usize, of_one: usize) -> Self {
        Self { taken: Arc::default(), all, of_one }
    }

    /// One for `of`, if there is one left.
    pub fn take(&self, of: K) -> Result<Place<K>, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.all {
            return Err(Full::All);
        }
        let own = taken.get(&of).copied().unwrap_or_default();
        if own >= self.of_one {
            return Err(Full::OfOne);
        }
        taken.insert(of.clone(), own + 1);
        Ok(Place { places: self.clone(), of })
    }
}

impl<K: Eq + Hash> Places<K> {
    /// Nobody has one.
    pub fn are_free(&self) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leaves_places_to_others_and_gets_its_own_back() {
        let places = Places::new(5, 3);
        let mut here: Vec<_> = (0..3).map(|_| places.take("here").unwrap()).collect();
        assert_eq!(places.take("here").unwrap_err(), Full::OfOne);
        let there = [places.take("there").unwrap(), places.take("there").unwrap()];
        assert_eq!(places.take("there").unwrap_err(), Full::All);
        here.pop();
        assert!(places.take("here").is_ok());
        drop((here, there));
        assert!(places.are_free());
    }
}
