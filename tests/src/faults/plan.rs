//! Which faults come, in which order, and whom they strike.
//!
//! Why here: an order that is drawn from a seed can be repeated, and is tested without a cluster. A round has every kind once; a kind
//! strikes the member that matters most first (it leads, or clients use it), and the others in later rounds. Pure. Route in: a
//! seed, who leads. Route out: [`Kind`]s and numbers of members.

use super::clock::OFF;
use sheaf_fuzz::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Members of the control plane.
pub const MEMBERS: usize = 3;

/// A program of a control-plane node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// sheaf-controller.
    Controller,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Controller];

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Etcd => "etcd.service",
            Self::ApiServer => "kube-apiserver.service",
            Self::ControllerManager => "kube-controller-manager.service",
            Self::Controller => "sheaf-controller.service",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.unit().trim_end_matches(".service"))
    }
}

/// A way in which a clock is wrong, by [`OFF`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Every certificate has ended.
    Ahead,
    /// None is valid yet.
    Behind,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ahead, Self::Behind];

    /// Seconds that the clock shows more than it should.
    pub fn seconds(self) -> i64 {
        let off = OFF.as_secs().cast_signed();
        if self == Self::Ahead { off } else { -off }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = OFF.as_secs() / (24 * 3600);
        write!(f, "{days} days {}", if *self == Self::Ahead { "ahead" } else { "behind" })
    }
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL; the program is started again after two seconds, as its unit says.
    Kill(Program),
    /// SIGSTOP, and SIGCONT later.
    Stop(Program),
    /// The member's cable is pulled.
    CutOff,
    /// Two members do not reach each other; both reach the third.
    CutPair,
    /// Every member's cable is pulled.
    CutAll,
    /// Each write to etcd's disk waits for its turn.
    SlowDisk,
    /// etcd's disk answers no write.
    FrozenDisk,
    /// etcd's disk has no free block.
    FullDisk,
    /// The clock jumps while its programs run, and is right again later.
    Clock(Way),
    /// The clock is wrong, and its programs are started again by it, as after a boot without a battery.
    StartClock(Way),
    /// etcd's data is gone; the member is replaced as docs/cluster.md says.
    LostData,
}

impl Kind {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let programs = Program::ALL.into_iter();
        let killed = programs.clone().map(Self::Kill);
        let stopped = programs.map(Self::Stop);
        let others = [
            Self::CutOff,
            Self::CutPair,
            Self::CutAll,
            Self::SlowDisk,
            Self::FrozenDisk,
            Self::FullDisk,
            Self::LostData,
        ];
        let clocks = Way::ALL.into_iter().flat_map(|way| [Self::Clock(way), Self::StartClock(way)]);
        killed.chain(stopped).chain(others).chain(clocks).collect()
    }

    /// How long it lasts.
    pub fn lasts(self) -> Duration {
        Duration::from_secs(match self {
            // What ended is started again by its unit.
            Self::Kill(_) | Self::LostData => 0,
            // Longer than another waits before it leads (30 s, sheaf_controller::lease): the former leader then wakes up beside it.
            Self::Stop(Program::Controller) => 40,
            // kube-controller-manager's lease lasts 15 s.
            Self::Stop(Program::ControllerManager) => 20,
            // Longer than a client may wait for an answer.
            Self::Stop(_) | Self::CutOff | Self::CutPair | Self::FrozenDisk => 14,
            // Shorter than a node's lease (40 s): no node is called Unknown.
            Self::CutAll => 8,
            Self::SlowDisk | Self::FullDisk => 20,
            // Longer than kube-controller-manager's lease, and than a node may be silent by its own count (Kubernetes: 50 s).
            Self::Clock(_) | Self::StartClock(_) => 60,
        })
    }

    /// Whether it strikes one member or one path only: then clients are answered all the time.
    pub fn is_single(self) -> bool {
        self != Self::CutAll
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.lasts().as_secs();
        match self {
            Self::Kill(program) => write!(f, "{program}: SIGKILL"),
            Self::Stop(program) => write!(f, "{program}: SIGSTOP for {seconds} s"),
            Self::CutOff => write!(f, "one member cut off for {seconds} s"),
            Self::CutPair => write!(f, "two members cut off from each other for {seconds} s"),
            Self::CutAll => write!(f, "all members cut off for {seconds} s"),
            Self::SlowDisk => write!(f, "etcd's disk slow for {seconds} s"),
            Self::FrozenDisk => write!(f, "etcd's disk frozen for {seconds} s"),
            Self::FullDisk => write!(f, "etcd's disk full for {seconds} s"),
            Self::Clock(way) => write!(f, "clock {way} for {seconds} s"),
            Self::StartClock(way) => write!(f, "clock {way} for {seconds} s, programs started by it"),
            Self::LostData => f.write_str("etcd's data lost, the member replaced"),
        }
    }
}

/// The order of faults that a seed gives.
pub struct Order {
    random: Random,
    left: Vec<Kind>,
    struck: BTreeMap<Kind, BTreeSet<usize>>,
}

impl Order {
    /// The order of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), left: Vec::new(), struck: BTreeMap::new() }
    }

    /// The next fault: each kind once before any comes again.
    pub fn next_kind(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left = Kind::all();
        }
        let at = self.random.below(self.left.len());
        self.left.swap_remove(at)
    }

    /// Whom it strikes: `leading` first, then those that it has not struck yet, each once before any again.
    pub fn target(&mut self, kind: Kind, leading: Option<usize>) -> usize {
        let struck = self.struck.entry(kind).or_default();
        if struck.len() == MEMBERS {
            struck.clear();
        }
        let left: Vec<usize> = (0..MEMBERS).filter(|member| !struck.contains(member)).collect();
        let target = leading.filter(|member| left.contains(member)).unwrap_or_else(|| *self.random.of(&left));
        struck.insert(target);
        target
    }
}

/// How long faults come: `SHEAF_FAULT_MINUTES`, or as long as a run of all cases has room for.
pub fn minutes(asked: Option<&str>) -> anyhow::Result<Duration> {
    const MINUTES: u64 = 5;
    let count = match asked {
        None => Some(MINUTES),
        Some(asked) => asked.parse().ok().filter(|minutes| *minutes > 0),
    };
    let count = count.ok_or_else(|| {
        anyhow::anyhow!(
            "SHEAF_FAULT_MINUTES: {} is not a number of minutes; write 5, or 30",
            asked.unwrap_or_default()
        )
    })?;
    Ok(Duration::from_secs(count * 60))
}

/// The seed: `SHEAF_FAULT_SEED`, or one of the moment.
pub fn seed(asked: Option<&str>, now: Duration) -> anyhow::Result<u64> {
    match asked {
        None => Ok(now.as_secs()),
        Some(asked) => {
            asked.parse().map_err(|_| anyhow::anyhow!("SHEAF_FAULT_SEED: {asked} is not a number; write 1"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64, count: usize) -> Vec<(Kind, usize)> {
        let mut order = Order::new(seed);
        let next = |_| {
            let kind = order.next_kind();
            (kind, order.target(kind, Some(1)))
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_seed_another() {
        assert_eq!(order(7, 40), order(7, 40));
        assert_ne!(order(7, 40), order(8, 40));
    }

    #[test]
    fn every_round_has_every_kind_once_and_three_rounds_strike_every_member_the_leading_one_first() {
        let kinds = Kind::all().len();
        let all = order(1, 3 * kinds);
        for round in all.chunks(kinds) {
            let round: BTreeSet<_> = round.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(round.len(), kinds);
        }
        assert!(all[..kinds].iter().all(|(_, member)| *member == 1), "the one that leads comes first");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3 * kinds, "each member once by each kind");
    }

    #[test]
    fn a_run_takes_five_minutes_or_what_was_asked_for() {
        assert_eq!(minutes(None).unwrap().as_secs(), 300);
        assert_eq!(minutes(Some("30")).unwrap().as_secs(), 1800);
        for asked in ["0", "x", "-1"] {
            let expected = format!("SHEAF_FAULT_MINUTES: {asked} is not a number of minutes; write 5, or 30");
            assert_eq!(minutes(Some(asked)).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_seed_repeats_an_order_and_without_one_the_time_is_it() {
        let now = Duration::from_secs(1_796_000_000);
        assert_eq!(seed(None, now).unwrap(), 1_796_000_000);
        assert_eq!(seed(Some("12"), now).unwrap(), 12);
        let error = seed(Some("a"), now).unwrap_err().to_string();
        assert_eq!(error, "SHEAF_FAULT_SEED: a is not a number; write 1");
    }
}
