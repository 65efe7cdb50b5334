//! How long clients were without an answer.
//!
//! Why here: the longest silence counts, not the mean, and it may begin before a fault is over and end after it. Pure. Route in: the
//! moments of answers. Route out: the longest time between two of them that touches a window.

use std::time::{Duration, Instant};

/// Longest time without an answer after any single fault (issue 13, and the design's table of numbers).
pub const LIMIT: Duration = Duration::from_secs(10);

/// The moments at which a client was answered, in order.
#[derive(Default)]
pub struct Answers(Vec<Instant>);

impl Answers {
    /// One more answer, now or later than all before.
    pub fn add(&mut self, at: Instant) {
        self.0.push(at);
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The longest time without an answer that touches the window; without any answer all of it.
    pub fn longest(&self, from: Instant, to: Instant) -> Duration {
        // The answer before the window and the one after it are its edges; where there is none, the window's own.
        let before = self.0.iter().rev().find(|at| **at <= from).copied().unwrap_or(from);
        let after = self.0.iter().find(|at| **at >= to).copied().unwrap_or(to);
        let inside = self.0.iter().filter(|at| **at > from && **at < to).copied();
        let moments: Vec<Instant> = [before].into_iter().chain(inside).chain([after]).collect();
        moments.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
    }
}

/// What is wrong with a silence after a single fault, if anything is.
pub fn judge(what: &str, silence: Duration) -> Option<String> {
    (silence > LIMIT).then(|| {
        format!("{what}: no answer for {:.1} s; {} s are allowed", silence.as_secs_f64(), LIMIT.as_secs())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(begin: Instant, seconds: &[u64]) -> Answers {
        Answers(seconds.iter().map(|second| begin + Duration::from_secs(*second)).collect())
    }

    #[test]
    fn the_longest_time_between_two_answers_counts_also_over_the_edges_of_the_window() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let answers = answers(begin, &[0, 1, 2, 9, 10, 30]);
        assert_eq!(answers.longest(at(1), at(10)).as_secs(), 7);
        assert_eq!(answers.longest(at(3), at(4)).as_secs(), 7, "it began before and ends later");
        assert_eq!(answers.longest(at(10), at(12)).as_secs(), 20);
        assert_eq!(answers.longest(at(30), at(45)).as_secs(), 15, "no answer came any more");
        assert_eq!(Answers::default().longest(at(3), at(9)).as_secs(), 6, "there was never an answer");
    }

    #[test]
    fn a_silence_of_eleven_seconds_is_found_and_one_of_ten_is_allowed() {
        let begin = Instant::now();
        let longest = |seconds: &[u64]| {
            let end = begin + Duration::from_secs(60);
            judge("reads", answers(begin, seconds).longest(begin, end))
        };
        assert_eq!(longest(&[0, 10, 20, 30, 40, 50, 60]), None);
        assert_eq!(
            longest(&[0, 10, 20, 30, 41, 50, 60]).unwrap(),
            "reads: no answer for 11.0 s; 10 s are allowed"
        );
    }
}
