//! How many connections there are of each address.
//!
//! Why here: one address must not take all places. Route in: addresses. Route out: [`Counted`], held as long as a connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections by address.
#[derive(Clone, Default)]
pub struct Counts(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; dropped, it is not counted any more.
pub struct Counted(Counts, IpAddr);

impl Counts {
    /// Counts one more, unless there are `most`.
    pub fn add(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        counts.insert(address, count + 1);
        Some(Counted(self.clone(), address))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(counts, address) = self;
        let mut counts = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_part_of_the_connections_and_gets_them_back() {
        let counts = Counts::default();
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut held: Vec<_> = (0..3).map(|_| counts.add(here, 3).unwrap()).collect();
        assert!(counts.add(here, 3).is_none());
        assert!(counts.add(there, 3).is_some());
        held.pop();
        assert!(counts.add(here, 3).is_some());
        drop(held);
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
