//! How far an installation is, on every console it was given.
//!
//! Why here: a machine without a keyboard is watched on a screen, on a serial line, or in the log of one.
//! Screens show one line that is written over; everything else gets a plain line every few per cent.
//! Route in: phases and bytes, from any thread. Route out: text on [`Console`]s.

use sheaf_host::console::Console;
use sheaf_host::human::{decimal, time};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A screen is written over this often at most: fast enough to look alive, slow enough to cost nothing.
const REFRESH: Duration = Duration::from_millis(250);
/// Part of a phase, in per cent, after which a plain line follows.
const PLAIN_STEP: u64 = 10;
/// Phases shorter than this get no plain lines but their heading: a log shall not tell of the negligible.
const PLAIN_AFTER: Duration = Duration::from_secs(2);
/// Columns that a line written over may take: one less than the narrowest screen, else it wraps.
const WIDTH: usize = 79;

/// News of an installation, for anyone who draws a screen of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something was said, in one line or more.
    Say(String),
    /// Something is not as it should be, and the installation continues.
    Warn(String),
    /// A phase begins.
    Phase {
        /// Its number, from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// What it does.
        what: String,
    },
    /// How far the phase is.
    Bytes {
        /// Bytes done.
        done: u64,
        /// Bytes that the phase handles.
        total: u64,
        /// How long it has taken.
        elapsed: Duration,
    },
}

/// Gets the news.
pub type Watch = Box<dyn Fn(Told) + Send + Sync>;

/// Tells consoles how far it is.
pub struct Progress {
    state: Mutex<State>,
    watch: Option<Watch>,
}

struct State {
    consoles: Vec<Console>,
    done: u64,
    total: u64,
    start: Instant,
    shown: Instant,
    plain_shown: u64,
    line_open: bool,
    label: String,
}

impl Progress {
    /// Speaks to `consoles`.
    pub fn new(consoles: Vec<Console>) -> Self {
        let now = Instant::now();
        let state = State {
            consoles,
            done: 0,
            total: 0,
            start: now,
            shown: now,
            plain_shown: 0,
            line_open: false,
            label: String::new(),
        };
        Self { state: Mutex::new(state), watch: None }
    }

    /// Tells `watch` and no console.
    pub fn watched(watch: Watch) -> Self {
        Self { watch: Some(watch), ..Self::new(Vec::new()) }
    }

    fn tell(&self, told: impl FnOnce() -> Told) {
        if let Some(watch) = &self.watch {
            watch(told());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Says `text`, of one line or more, on every console.
    pub fn say(&self, text: &str) {
        self.tell(|| Told::Say(text.trim_end().to_owned()));
        self.show(text);
    }

    /// Says that something is not as it should be; the installation continues.
    pub fn warn(&self, text: &str) {
        self.tell(|| Told::Warn(text.to_owned()));
        self.show(&format!("Warning: {text}"));
    }

    fn show(&self, text: &str) {
        let mut state = self.state();
        state.close_line();
        // Carriage returns too: a serial line need not be in a mode that adds them.
        let text = format!("{}\r\n", text.trim_end().replace('\n', "\r\n"));
        state.consoles.iter_mut().for_each(|console| console.say(&text));
    }

    /// Phase `number` of `of` begins.
    pub fn phase(&self, number: usize, of: usize, what: &str) {
        let label = format!("[{number}/{of}]");
        self.tell(|| Told::Phase { number, of, what: what.to_owned() });
        self.show(&format!("{label} {what}"));
        let mut state = self.state();
        state.label = label;
        (state.done, state.total, state.plain_shown) = (0, 0, 0);
        state.start = Instant::now();
        state.shown = state.start;
    }

    /// The phase will handle `total` bytes.
    pub fn expect(&self, total: u64) {
        self.state().total = total;
    }

    /// `bytes` more are done.
    pub fn advance(&self, bytes: u64) {
        let mut state = self.state();
        state.done += bytes;
        let now = Instant::now();
        let percent = (state.done * 100).checked_div(state.total).unwrap_or(0);
        let finished = state.done >= state.total;
        if now - state.shown >= REFRESH || finished {
            let line = state.line(now, percent);
            let padded = format!("\r{line:<WIDTH$}");
            state.shown = now;
            let (done, total, elapsed) = (state.done, state.total, now - state.start);
            self.tell(|| Told::Bytes { done, total, elapsed });
            let screens = state.consoles.iter_mut().filter(|console| console.rewritable());
            let shown = screens.map(|screen| screen.say(&padded)).count();
            state.line_open = shown > 0;
        }
        if percent >= state.plain_shown + PLAIN_STEP && now - state.start >= PLAIN_AFTER {
            let line = format!("{}\r\n", state.line(now, percent));
            state.plain_shown = percent / PLAIN_STEP * PLAIN_STEP;
            state.consoles.iter_mut().filter(|c| !c.rewritable()).for_each(|console| console.say(&line));
        }
    }
}

impl State {
    fn line(&self, now: Instant, percent: u64) -> String {
        let elapsed = now - self.start;
        let rate = self.done as f64 / elapsed.as_secs_f64().max(0.001);
        let left = Duration::from_secs_f64(self.total.saturating_sub(self.done) as f64 / rate.max(1.0));
        let (done, total) = (decimal(self.done), decimal(self.total));
        let line = format!(
            "{} {percent:3} %  {done} of {total}  {}/s  {} left",
            self.label,
            decimal(rate as u64),
            time(left)
        );
        line.chars().take(WIDTH).collect()
    }

    fn close_line(&mut self) {
        if std::mem::take(&mut self.line_open) {
            self.consoles.iter_mut().filter(|c| c.rewritable()).for_each(|console| console.say("\r\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn told(rewritable: bool, tell: impl Fn(&Progress)) -> String {
        let log = Log::default();
        tell(&Progress::new(vec![Console::of(Box::new(log.clone()), rewritable)]));
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_screen_shows_bytes_rate_and_time_left_on_one_line() {
        let screen = told(true, |progress| {
            progress.phase(3, 9, "write root");
            progress.expect(4_000_000);
            progress.advance(4_000_000);
            progress.phase(4, 9, "verify root");
        });
        assert!(screen.starts_with("[3/9] write root\r\n\r[3/9] 100 %  4 MB of 4 MB  "), "{screen:?}");
        assert!(screen.contains("/s  0 s left"), "{screen:?}");
        assert!(screen.ends_with("\r\n[4/9] verify root\r\n"), "{screen:?}");
    }

    #[test]
    fn who_draws_its_own_screen_gets_the_news_as_values() {
        let news = Arc::new(Mutex::new(Vec::new()));
        let kept = news.clone();
        let progress = Progress::watched(Box::new(move |told| kept.lock().unwrap().push(told)));
        progress.say("hello\n");
        progress.warn("late");
        progress.phase(1, 2, "write");
        progress.expect(10);
        progress.advance(10);
        let news = news.lock().unwrap();
        assert_eq!(news[0], Told::Say("hello".into()));
        assert_eq!(news[1], Told::Warn("late".into()));
        assert_eq!(news[2], Told::Phase { number: 1, of: 2, what: "write".into() });
        assert!(matches!(news[3], Told::Bytes { done: 10, total: 10, .. }), "{news:?}");
    }

    #[test]
    fn a_warning_is_called_one_on_every_console() {
        assert_eq!(told(false, |progress| progress.warn("nobody heard")), "Warning: nobody heard\r\n");
        assert_eq!(told(true, |progress| progress.warn("nobody heard")), "Warning: nobody heard\r\n");
    }

    #[test]
    fn a_log_gets_no_line_that_is_written_over() {
        let log = told(false, |progress| {
            progress.phase(1, 9, "check");
            progress.expect(100);
            (0..100).for_each(|_| progress.advance(1));
        });
        assert_eq!(log, "[1/9] check\r\n");
    }
}
