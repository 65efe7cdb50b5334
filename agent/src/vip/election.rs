//! Who may have the address: a candidate's rules about the Lease. Pure, and without a clock of its own.
//!
//! A holder counts as gone when its record did not change for [`DURATION`] by the candidate's own clock, so clocks need not agree
//! about the time, only, within a tenth, about how long a second is. A holder has the address for [`HOLD`] after the beginning of its
//! last renewal. Route in: what was read, and when. Route out: [`Claim`]; [`Election::remaining`].

use std::time::Duration;

/// Between two rounds: a renewal of the holder, an observation of the others. The holder may miss one.
pub const PERIOD: Duration = Duration::from_secs(2);
/// How long the holder has the address after the beginning of its last renewal.
pub const HOLD: Duration = Duration::from_secs(5);
/// How long a record must stay the same before another candidate may take the Lease. [`HOLD`], two seconds in which the kernel
/// removes an address that is over, and one for clocks that differ.
pub const DURATION: Duration = Duration::from_secs(8);

/// What the Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Name of the node that holds it; empty when it was given up.
    pub holder: String,
    /// All of it, as text: any change counts.
    pub all: String,
}

/// What a candidate does about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is its own: renew it.
    Renew,
    /// It is free: take it.
    Take,
    /// Another has it.
    Wait,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Election {
    name: String,
    /// The record of another, and when it was first observed.
    seen: Option<(Record, Duration)>,
    /// When the last renewal that succeeded was begun.
    renewed: Option<Duration>,
}

impl Election {
    /// A candidate, by the name of its node. It holds nothing yet: after a restart it renews a Lease that is its own.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), seen: None, renewed: None }
    }

    /// The Lease was read, at `now` by the candidate's clock; `None`: there is none.
    pub fn read(&mut self, record: Option<&Record>, now: Duration) -> Claim {
        let Some(record) = record.filter(|record| !record.holder.is_empty()) else {
            self.lost();
            return Claim::Take;
        };
        if record.holder == self.name {
            self.seen = None;
            return Claim::Renew;
        }
        self.renewed = None;
        match &self.seen {
            Some((seen, since)) if seen == record => match now.saturating_sub(*since) >= DURATION {
                true => Claim::Take,
                false => Claim::Wait,
            },
            _ => {
                self.seen = Some((record.clone(), now));
                Claim::Wait
            }
        }
    }

    /// The Lease was written with this candidate's name; the request began at `begun`.
    pub fn written(&mut self, begun: Duration) {
        (self.seen, self.renewed) = (None, Some(begun));
    }

    /// It holds the Lease no more, by its own will or by another's.
    pub fn lost(&mut self) {
        (self.seen, self.renewed) = (None, None);
    }

    /// For how long from `now` on this candidate has the address; zero when it does not.
    pub fn remaining(&self, now: Duration) -> Duration {
        self.renewed.map_or(Duration::ZERO, |begun| begun.saturating_add(HOLD).saturating_sub(now))
    }

    /// Who holds the Lease, if another does.
    pub fn other(&self) -> Option<&str> {
        self.seen.as_ref().map(|(record, _)| record.holder.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(holder: &str, all: &str) -> Record {
        Record { holder: holder.into(), all: all.into() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_nobody_holds_is_taken_and_the_address_is_had_from_the_beginning_of_the_request() {
        let mut election = Election::new("a");
        assert_eq!(election.read(None, seconds(1)), Claim::Take);
        assert_eq!(election.read(Some(&record("", "1")), seconds(1)), Claim::Take);
        assert_eq!(election.remaining(seconds(1)), Duration::ZERO);
        election.written(seconds(1));
        assert_eq!(election.remaining(seconds(2)), HOLD - seconds(1));
        assert_eq!(election.remaining(seconds(6)), Duration::ZERO);
        assert_eq!(election.read(Some(&record("a", "2")), seconds(3)), Claim::Renew);
    }

    #[test]
    fn a_holder_that_renews_is_left_alone_and_one_that_does_not_is_followed_after_its_time() {
        let mut election = Election::new("b");
        for now in 0..20 {
            assert_eq!(election.read(Some(&record("a", &now.to_string())), seconds(now)), Claim::Wait);
        }
        assert_eq!(election.other(), Some("a"));
        let last = record("a", "19");
        assert_eq!(
            election.read(Some(&last), seconds(19) + DURATION - Duration::from_millis(1)),
            Claim::Wait
        );
        assert_eq!(election.read(Some(&last), seconds(19) + DURATION), Claim::Take);
    }

    #[test]
    fn a_holder_whose_lease_another_took_gives_the_address_up_at_once() {
        let mut election = Election::new("a");
        election.written(seconds(0));
        assert_eq!(election.read(Some(&record("b", "1")), seconds(1)), Claim::Wait);
        assert_eq!(election.remaining(seconds(1)), Duration::ZERO);
    }

    /// A machine of the model: its clock has an offset and a rate, its kernel removes the address when its time is over.
    struct Machine {
        election: Election,
        /// Thousandths of the true time: 950 to 1050.
        rate: u64,
        offset: u64,
        /// Until when, by the true time, the kernel has the address; it may be two seconds late.
        until: u64,
        cut: bool,
    }

    impl Machine {
        fn now(&self, now: u64) -> Duration {
            Duration::from_millis(self.offset + now * self.rate / 1000)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A candidate makes a round; the write takes effect (or not) so many milliseconds after it was begun, and the answer is received.
        Round { machine: usize, delay: u64, answered: bool },
        /// A machine is cut off, or no longer.
        Cut { machine: usize, cut: bool },
        /// Its agent is killed and starts again: it knows nothing.
        Restart(usize),
        /// It gives the address up and releases the Lease.
        Release(usize),
        /// Time passes, in milliseconds. An agent that is stopped makes no round meanwhile.
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..3_usize, 0..4000_u64, any::<bool>())
                .prop_map(|(machine, delay, answered)| Step::Round { machine, delay, answered }),
            2 => (0..3_usize, any::<bool>()).prop_map(|(machine, cut)| Step::Cut { machine, cut }),
            1 => (0..3_usize).prop_map(Step::Restart),
            1 => (0..3_usize).prop_map(Step::Release),
            6 => (0..12_000_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
        /// Whatever is cut off, slow, stopped or restarted: no two machines have the address at one time, though their clocks differ.
        #[test]
        fn no_two_machines_have_the_address_at_one_time(
            steps in prop::collection::vec(step(), 1..120),
            clocks in prop::array::uniform3((0..1_000_000_u64, 950..1051_u64)),
        ) {
            let names = ["a", "b", "c"];
            let mut machines: Vec<Machine> = clocks.iter().zip(names).map(|((offset, rate), name)| Machine {
                election: Election::new(name), rate: *rate, offset: *offset, until: 0, cut: false,
            }).collect();
            let (mut lease, mut version, mut now): (Option<Record>, u64, u64) = (None, 0, 0);
            for step in steps {
                match step {
                    Step::Wait(time) => now += time,
                    Step::Cut { machine, cut } => machines[machine].cut = cut,
                    Step::Restart(machine) => machines[machine].election = Election::new(names[machine]),
                    Step::Release(machine) => {
                        let one = &mut machines[machine];
                        // First the address, then the Lease.
                        one.until = now;
                        one.election.lost();
                        if !one.cut && lease.as_ref().is_some_and(|lease| lease.holder == names[machine]) {
                            version += 1;
                            lease = Some(record("", &version.to_string()));
                        }
                    }
                    Step::Round { machine, delay, answered } => {
                        let one = &mut machines[machine];
                        if one.cut {
                            continue;
                        }
                        let (begun, read_version) = (one.now(now), version);
                        let claim = one.election.read(lease.as_ref(), begun);
                        if claim == Claim::Wait {
                            // It has the address no more, if it had.
                            one.until = one.until.min(now);
                            continue;
                        }
                        now += delay;
                        // The resource version: of two writes the later one fails.
                        if version == read_version {
                            version += 1;
                            lease = Some(record(names[machine], &version.to_string()));
                            if answered {
                                one.election.written(begun);
                            }
                        }
                        let left = one.election.remaining(one.now(now));
                        let left = u64::try_from(left.as_millis()).unwrap();
                        if left >= 1000 {
                            // Whole seconds, by a clock that is as wrong, and up to two seconds late.
                            one.until = now + left / 1000 * 1000 * 1000 / one.rate + 2000;
                        }
                    }
                }
                let having = machines.iter().filter(|machine| machine.until > now).count();
                prop_assert!(having <= 1, "{having} machines at {now} ms");
            }
        }
    }

    /// The model is worth something only if the address moves in it.
    #[test]
    fn after_the_holder_is_gone_another_has_the_address_within_twelve_seconds() {
        let (mut a, mut b) = (Election::new("a"), Election::new("b"));
        assert_eq!(a.read(None, seconds(0)), Claim::Take);
        a.written(seconds(0));
        let last = record("a", "1");
        let mut now = seconds(0);
        // The worst case: it was observed a whole period after it was written.
        while b.read(Some(&last), now + PERIOD) != Claim::Take {
            now += PERIOD;
        }
        assert!(now + PERIOD <= seconds(12), "{now:?}");
        b.written(now + PERIOD);
        assert!(b.remaining(now + PERIOD) > Duration::ZERO);
    }
}
