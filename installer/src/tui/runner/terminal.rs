//! One terminal: a thread that reads its keys, and one that draws the newest state.

use super::Message;
use crate::tui::ansi::Ansi;
use crate::tui::event::Event;
use crate::tui::key::{ASK_SIZE, Decoder, Input, Key};
use crate::tui::pages::Page;
use crate::tui::state::State;
use crate::tui::view::view;
use ratatui::Terminal as Canvas;
use sheaf_host::tty::Terminal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// An escape byte that nothing follows for so long is the key: BMCs send the bytes of one key in several packets.
const ESCAPE_DELAY: Duration = Duration::from_millis(150);
/// How often a reader looks whether it is still wanted, and a window whether its size changed.
const LOOK: Duration = Duration::from_millis(500);
/// A line that nobody reads is not waited for at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Lines that wrap by themselves would scroll the screen from its last cell; what was there goes.
const ENTER: &str = "\x1b[0m\x1b[?7l\x1b[2J";
/// As a terminal is found: it wraps and shows its cursor, below what was drawn last.
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[999;1H\r\n";

/// What a drawer is told.
pub enum Draw {
    /// This is the state now.
    State(Arc<State>),
    /// Everything again: something else wrote on the screen.
    All,
    /// The terminal has so many columns and rows.
    Size(u16, u16),
    /// Give the terminal back.
    End,
}

/// A terminal with its two threads.
pub struct Screen {
    drawer: Sender<Draw>,
    finished: Receiver<()>,
}

impl Screen {
    /// Begins to read and to draw.
    pub fn start(terminal: Arc<dyn Terminal>, messages: Sender<Message>) -> Self {
        let (drawer, orders) = channel();
        let (done, finished) = channel();
        let (reader, resizer) = (terminal.clone(), drawer.clone());
        std::thread::spawn(move || read(&*reader, &messages, &resizer));
        std::thread::spawn(move || {
            // A terminal that cannot be drawn on is one that is gone; its reader says so.
            let _ = draw(terminal, &orders);
            let _ = done.send(());
        });
        Self { drawer, finished }
    }

    /// Passes an order on; a drawer that ended has none to take.
    pub fn draw(&self, order: Draw) {
        let _ = self.drawer.send(order);
    }

    /// Waits until the last state was drawn.
    pub fn finish(self) {
        self.draw(Draw::End);
        let _ = self.finished.recv_timeout(LAST_WORDS);
    }
}

/// Ends when the terminal does, or when nobody listens.
fn read(terminal: &dyn Terminal, messages: &Sender<Message>, drawer: &Sender<Draw>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 256];
    loop {
        let timeout = if decoder.is_waiting() { ESCAPE_DELAY } else { LOOK };
        let inputs = match terminal.read(&mut bytes, timeout) {
            Ok(0) => decoder.silence().into_iter().collect(),
            Ok(length) => decoder.feed(&bytes[..length]),
            Err(_) => return drop(messages.send(Message::Gone)),
        };
        for input in inputs {
            let heard = match input {
                Input::Key(Key::Ctrl('l')) => drawer.send(Draw::All).is_ok(),
                Input::Key(key) => messages.send(Message::Event(Event::Key(key))).is_ok(),
                Input::Cursor { row, column } => drawer.send(Draw::Size(column, row)).is_ok(),
            };
            if !heard {
                return;
            }
        }
    }
}

fn draw(terminal: Arc<dyn Terminal>, orders: &Receiver<Draw>) -> std::io::Result<()> {
    let mut canvas = Canvas::new(Ansi::new(terminal.clone()))?;
    canvas.backend_mut().send(ENTER);
    let mut state: Option<Arc<State>> = None;
    let mut shown: Option<(Page, bool)> = None;
    ask_size(&*terminal, &mut canvas);
    loop {
        let (mut all, mut end) = (false, false);
        let first = match orders.recv_timeout(LOOK) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let waited = first.is_none();
        // Only the newest state counts: a slow line is not sent what is over.
        for order in first.into_iter().chain(orders.try_iter()) {
            match order {
                Draw::State(new) => state = Some(new),
                Draw::All => {
                    all = true;
                    ask_size(&*terminal, &mut canvas);
                }
                Draw::End => end = true,
                Draw::Size(width, height) => canvas.backend_mut().set_size(width, height),
            }
        }
        let size = terminal.size();
        if let Some((width, height)) = size {
            let known = canvas.size()?;
            if waited && (known.width, known.height) == (width, height) {
                continue;
            }
            canvas.backend_mut().set_size(width, height);
        } else if waited {
            continue;
        }
        if let Some(state) = &state {
            // A new page is drawn whole: whatever a kernel or firmware wrote in between is gone then.
            if all || shown != Some((state.page, state.help)) {
                canvas.clear()?;
                shown = Some((state.page, state.help));
            }
            canvas.draw(|frame| view(state, frame))?;
        }
        if end {
            break;
        }
    }
    terminal.write(LEAVE.as_bytes())
}

/// A terminal whose size the kernel does not know is asked itself; the answer comes among its keys.
fn ask_size(terminal: &dyn Terminal, canvas: &mut Canvas<Ansi>) {
    if terminal.size().is_none() {
        canvas.backend_mut().send(ASK_SIZE);
    }
}
