//! When nodes may be begun. Pure.
//!
//! Why here: a window may pass midnight, and the end of the week. Route in: `spec.window`, the time. Route out: whether it is
//! open, and when it opens next.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sheaf_api::cluster_update::{Day, Window};

/// Minutes of a day.
const DAY: i64 = 24 * 60;
/// Minutes of a week.
const WEEK: i64 = 7 * DAY;
/// 1970-01-01 was a Thursday: minutes from the Monday before it.
const EPOCH: i64 = 3 * DAY;

const DAYS: [Day; 7] =
    [Day::Monday, Day::Tuesday, Day::Wednesday, Day::Thursday, Day::Friday, Day::Saturday, Day::Sunday];

/// Minutes since midnight of `HH:MM`. The API server admits nothing else; what it is not is midnight.
fn minutes(text: &str) -> i64 {
    let read = |text: &str| text.parse::<u8>().ok();
    let time = text.split_once(':').and_then(|(hours, minutes)| Some((read(hours)?, read(minutes)?)));
    time.map_or(0, |(hours, minutes)| i64::from(hours) * 60 + i64::from(minutes)) % DAY
}

/// The minute of the week in which `now` lies; Monday 00:00 UTC is 0.
fn minute_of_week(now: Timestamp) -> i64 {
    now.as_second().div_euclid(60).saturating_add(EPOCH).rem_euclid(WEEK)
}

/// When the window begins in a week, in minutes.
fn begins(window: &Window) -> impl Iterator<Item = i64> {
    let from = minutes(&window.from);
    let days = DAYS.iter().zip(0..).filter(|(day, _)| window.days.is_empty() || window.days.contains(day));
    days.map(move |(_, number): (_, i64)| number * DAY + from)
}

/// Whether the window is open.
pub fn is_open(window: &Window, now: Timestamp) -> bool {
    let length = (minutes(&window.until) - minutes(&window.from)).rem_euclid(DAY);
    let minute = minute_of_week(now);
    begins(window).any(|begin| (minute - begin).rem_euclid(WEEK) < length)
}

/// When the window opens next, after `now`, to the minute.
pub fn opens(window: &Window, now: Timestamp) -> Timestamp {
    let minute = minute_of_week(now);
    // At 0 it opened in this minute: the next time is a week later.
    let wait = begins(window).map(|begin| (begin - minute - 1).rem_euclid(WEEK) + 1).min().unwrap_or(WEEK);
    let this_minute = now.as_second().div_euclid(60).saturating_mul(60);
    let minute = Timestamp::from_second(this_minute).unwrap_or(now);
    minute.saturating_add(SignedDuration::from_mins(wait)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], from: &str, until: &str) -> Window {
        Window { days: days.to_vec(), from: from.into(), until: until.into() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_until_its_last_on_its_days() {
        // 2026-12-05 is a Saturday.
        let saturday = window(&[Day::Saturday], "22:00", "23:30");
        for (time, is) in [
            ("2026-12-05T21:59:59Z", false),
            ("2026-12-05T22:00:00Z", true),
            ("2026-12-05T23:29:59Z", true),
            ("2026-12-05T23:30:00Z", false),
            ("2026-12-06T22:10:00Z", false),
            ("1969-12-27T22:10:00Z", true),
        ] {
            assert_eq!(is_open(&saturday, at(time)), is, "{time}");
        }
    }

    #[test]
    fn a_window_that_passes_midnight_belongs_to_the_day_on_which_it_begins() {
        let sunday = window(&[Day::Sunday], "22:00", "02:00");
        assert!(is_open(&sunday, at("2026-12-06T23:00:00Z")));
        assert!(is_open(&sunday, at("2026-12-07T01:59:00Z")), "the night to Monday, and the end of the week");
        assert!(!is_open(&sunday, at("2026-12-06T01:00:00Z")), "the night to Sunday is Saturday's");
        assert!(!is_open(&sunday, at("2026-12-07T02:00:00Z")));
    }

    #[test]
    fn without_days_it_is_open_every_day() {
        let nightly = window(&[], "00:00", "04:00");
        for day in 1..=7 {
            assert!(is_open(&nightly, at(&format!("2026-12-0{day}T03:00:00Z"))));
            assert!(!is_open(&nightly, at(&format!("2026-12-0{day}T04:00:00Z"))));
        }
    }

    #[test]
    fn it_opens_next_on_the_next_of_its_days() {
        let two = window(&[Day::Saturday, Day::Tuesday], "22:00", "02:00");
        assert_eq!(opens(&two, at("2026-12-05T21:59:30Z")), at("2026-12-05T22:00:00Z"));
        assert_eq!(opens(&two, at("2026-12-05T22:00:00Z")), at("2026-12-08T22:00:00Z"));
        let weekly = window(&[Day::Saturday], "22:00", "02:00");
        assert_eq!(opens(&weekly, at("2026-12-05T22:00:59Z")), at("2026-12-12T22:00:00Z"));
    }

    #[test]
    fn no_time_of_the_calendar_is_too_early_or_too_late() {
        let nightly = window(&[], "22:00", "02:00");
        for time in [Timestamp::MIN, Timestamp::MAX] {
            let _ = (is_open(&nightly, time), opens(&nightly, time));
        }
        assert_eq!(minutes("99:99"), (99 * 60 + 99) % DAY, "what no schema admits is some time of the day");
        assert_eq!(minutes("noon"), 0);
    }
}
