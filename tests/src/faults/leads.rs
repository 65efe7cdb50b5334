//! Whether two sheaf-controllers led at the same time.
//!
//! Why by what the processes say: the Lease has one holder at every moment, and is silent on whether the one before has given up. A
//! process that is stopped leads nobody; one that is continued may lead until it has looked at its clock, which is at once
//! ([`OVERLAP`]). Pure. Route in: lines of the processes' logs; when the rig killed, stopped and continued them. Route out: the
//! longest time in which two led.

use k8s_openapi::jiff::Timestamp;
use std::time::Duration;

/// Longest time for which a leader that was stopped, and has been continued beside its successor, may lead: it looks at its clock at once,
/// on a machine that has other work.
pub const OVERLAP: Duration = Duration::from_secs(2);

/// What happened to one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It says that it leads.
    Leads,
    /// It says that it has lost the Lease.
    Follows,
    /// It was killed, or another process took its place.
    Ended,
    /// SIGSTOP.
    Stopped,
    /// SIGCONT.
    Continued,
}

/// Something that happened, and when.
pub type Moment = (Timestamp, What);

/// A time at which one led, from its begin to its end.
pub type Interval = (Timestamp, Timestamp);

/// Times at which one led, each from its begin to its end; one that leads still has the end `now`.
pub fn intervals(mut moments: Vec<Moment>, now: Timestamp) -> Vec<Interval> {
    moments.sort();
    let (mut leads, mut stopped, mut since) = (false, false, None);
    let mut found = Vec::new();
    for (at, what) in moments {
        match what {
            What::Leads => leads = true,
            What::Follows => leads = false,
            What::Ended => (leads, stopped) = (false, false),
            What::Stopped => stopped = true,
            What::Continued => stopped = false,
        }
        match (leads && !stopped, since) {
            (true, None) => since = Some(at),
            (false, Some(begin)) => {
                found.push((begin, at));
                since = None;
            }
            _ => {}
        }
    }
    found.extend(since.map(|begin| (begin, now)));
    found
}

/// The longest time in which two of these processes led.
pub fn overlap(processes: &[Vec<Interval>]) -> Duration {
    let mut longest = Duration::ZERO;
    for (number, one) in processes.iter().enumerate() {
        for (begin, end) in one {
            for (other_begin, other_end) in processes[number + 1..].iter().flatten() {
                let both = (*end.min(other_end)).duration_since(*begin.max(other_begin));
                longest = longest.max(both.try_into().unwrap_or_default());
            }
        }
    }
    longest
}

/// What is wrong, if anything is.
pub fn judge(overlap: Duration) -> Option<String> {
    (overlap > OVERLAP).then(|| format!("two sheaf-controllers led for {:.1} s", overlap.as_secs_f64()))
}

/// The moments in the log of a sheaf-controller: `TIME  INFO sheaf_controller: leading identity=…`, and `… lost the lease; standing by …`.
pub fn parse(log: &str) -> Vec<Moment> {
    let moment = |line: &str| {
        let (time, rest) = line.split_once(' ')?;
        let (_, said) = rest.split_once("sheaf_controller: ")?;
        let what = if said.starts_with("leading ") {
            What::Leads
        } else if said.starts_with("lost the lease") {
            What::Follows
        } else {
            return None;
        };
        Some((time.parse::<Timestamp>().ok()?, what))
    };
    log.lines().filter_map(moment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_796_000_000 + second).unwrap()
    }

    fn led(moments: &[(i64, What)]) -> Vec<Interval> {
        intervals(moments.iter().map(|(second, what)| (at(*second), *what)).collect(), at(100))
    }

    #[test]
    fn two_that_lead_at_once_are_found() {
        let first = led(&[(0, What::Leads), (40, What::Follows)]);
        let second = led(&[(35, What::Leads)]);
        let both = overlap(&[first, second]);
        assert_eq!(judge(both).unwrap(), "two sheaf-controllers led for 5.0 s");
        assert_eq!(overlap(&[led(&[(0, What::Leads)]), led(&[(0, What::Leads)])]).as_secs(), 100);
    }

    #[test]
    fn one_that_was_killed_or_is_stopped_does_not_lead_and_one_that_wakes_up_may_for_a_moment() {
        let killed = led(&[(0, What::Leads), (10, What::Ended)]);
        let stopped =
            led(&[(50, What::Leads), (60, What::Stopped), (95, What::Continued), (96, What::Follows)]);
        let last = led(&[(12, What::Leads), (45, What::Follows), (91, What::Leads)]);
        assert_eq!(stopped, [(at(50), at(60)), (at(95), at(96))]);
        let both = overlap(&[killed, stopped, last]);
        assert_eq!((both.as_secs(), judge(both)), (1, None));
    }

    #[test]
    fn a_controllers_log_says_when_it_leads_and_when_it_has_lost_the_lease() {
        let log = "2026-11-30T07:00:01.500000Z  INFO sheaf_controller: leading identity=vm_12_34\n\
                   2026-11-30T07:00:02.000000Z  INFO sheaf_controller::csr: leading nothing\n\
                   2026-11-30T07:00:31.000000Z  WARN sheaf_controller: lost the lease; standing by identity=vm_12_34\n";
        let expected = [
            ("2026-11-30T07:00:01.5Z".parse().unwrap(), What::Leads),
            ("2026-11-30T07:00:31Z".parse().unwrap(), What::Follows),
        ];
        assert_eq!(parse(log), expected);
    }
}
