//! How often somebody may try: passwords, codes.
//!
//! Why here: a password that people remember is found by trying. After a number of failures each further one doubles the
//! interval until the next try, by three measures: of one user from one address, of one address, of one user. The last has the
//! largest number, because anybody who knows a name could keep its owner out with it. Kept in memory of each replica and bounded:
//! what is forgotten first is what failed longest ago. Pure. Route in: who, when. Route out: seconds to wait, or none.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

/// Failures without an interval, of one user from one address.
const FREE_OF_BOTH: u32 = 5;
/// Of one address: several people may share one.
const FREE_OF_ADDRESS: u32 = 30;
/// Of one user, from wherever.
const FREE_OF_USER: u32 = 100;
/// The longest interval, in seconds; failures older than this are forgotten.
const LONGEST: u64 = 15 * 60;
/// Most entries that are remembered.
const MOST: usize = 20_000;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Both(String, IpAddr),
    Address(IpAddr),
    User(String),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: u64,
}

/// The memory.
#[derive(Debug, Default)]
pub struct Limits(HashMap<Key, Failures>);

impl Limits {
    /// Seconds until `user` may try from `address`; none if now.
    pub fn wait(&self, user: &str, address: IpAddr, now: u64) -> Option<u64> {
        let left = |(key, free)| {
            let failures = self.0.get(&key)?;
            let over = failures.count.checked_sub(free)?;
            // 1 s, 2 s, 4 s, …
            let interval = 1_u64.checked_shl(over).unwrap_or(LONGEST).min(LONGEST);
            (failures.last + interval).checked_sub(now).filter(|left| *left > 0)
        };
        keys(user, address).into_iter().filter_map(left).max()
    }

    /// A try failed.
    pub fn failed(&mut self, user: &str, address: IpAddr, now: u64) {
        if self.0.len() + 3 > MOST {
            self.forget(now);
        }
        for (key, _) in keys(user, address) {
            let failures = self.0.entry(key).or_insert(Failures { count: 0, last: now });
            let forgotten = now.saturating_sub(failures.last) > LONGEST;
            failures.count = if forgotten { 1 } else { failures.count.saturating_add(1) };
            failures.last = now;
        }
    }

    /// A try succeeded: what this user failed from this address is forgotten. What the address failed for others is not:
    /// else an own account would reset the count of guesses at another's.
    pub fn succeeded(&mut self, user: &str, address: IpAddr) {
        self.0.remove(&Key::Both(user.to_owned(), network(address)));
    }

    fn forget(&mut self, now: u64) {
        self.0.retain(|_, failures| now.saturating_sub(failures.last) <= LONGEST);
        if self.0.len() + 3 > MOST {
            let mut times: Vec<u64> = self.0.values().map(|failures| failures.last).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.0.retain(|_, failures| failures.last > median);
        }
    }
}

fn keys(user: &str, address: IpAddr) -> [(Key, u32); 3] {
    let address = network(address);
    [
        (Key::Both(user.to_owned(), address), FREE_OF_BOTH),
        (Key::Address(address), FREE_OF_ADDRESS),
        (Key::User(user.to_owned()), FREE_OF_USER),
    ]
}

/// Of IPv6 the first 64 bits: who has one address there has them all.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn after_five_failures_each_further_one_doubles_the_interval_up_to_a_quarter_of_an_hour() {
        let (mut limits, here) = (Limits::default(), address("192.0.2.1"));
        for _ in 0..4 {
            limits.failed("alice", here, 100);
        }
        assert_eq!(limits.wait("alice", here, 100), None);
        let mut intervals = Vec::new();
        for _ in 0..12 {
            limits.failed("alice", here, 100);
            intervals.push(limits.wait("alice", here, 100).unwrap());
        }
        assert_eq!(intervals, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(limits.wait("alice", here, 100 + 900), None, "it ends");
        assert_eq!(limits.wait("bob", here, 100), None, "others at the address are let in");
        assert_eq!(limits.wait("alice", address("192.0.2.2"), 100), None, "so is she from elsewhere");
        limits.succeeded("alice", here);
        assert_eq!(limits.wait("alice", here, 100), None);
    }

    #[test]
    fn who_tries_many_names_from_one_address_waits_and_an_own_account_resets_nothing() {
        let (mut limits, here) = (Limits::default(), address("2001:db8::1"));
        for number in 0..30 {
            limits.failed(&format!("user-{number}"), here, 7);
        }
        limits.succeeded("mallory", here);
        assert_eq!(limits.wait("carol", here, 7), Some(1));
        assert_eq!(limits.wait("carol", address("2001:db8::ffff"), 7), Some(1), "the same network");
        assert_eq!(limits.wait("carol", address("2001:db8:0:1::1"), 7), None);
    }

    #[test]
    fn one_user_tried_from_many_addresses_waits_too() {
        let mut limits = Limits::default();
        for number in 0..100_u8 {
            limits.failed("alice", [192, 0, 2, number].into(), 7);
        }
        assert_eq!(limits.wait("alice", address("198.51.100.1"), 7), Some(1));
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_old_is_forgotten() {
        let mut limits = Limits::default();
        for number in 0..40_000_u32 {
            limits.failed("x", IpAddr::from(number.to_be_bytes()), u64::from(number / 1000));
            assert!(limits.0.len() <= MOST);
        }
        let (mut limits, here) = (Limits::default(), address("192.0.2.1"));
        for _ in 0..9 {
            limits.failed("alice", here, 100);
        }
        limits.failed("alice", here, 100 + LONGEST + 1);
        assert_eq!(limits.wait("alice", here, 100 + LONGEST + 1), None, "it counts from one again");
    }
}
