//! Joins terminals, the state machine and what it asks for.
//!
//! Why threads: a serial line that nobody reads must not hold up the screen, nor a slow probe the keys. Each terminal has
//! one that reads and one that draws the newest state; each action has one of its own. The state itself is only touched
//! here. Route in: terminals, [`Effects`]. Route out: returns when the machine is told to restart or to power off.

mod terminal;

use super::event::{Action, Check, Event, Failed};
use super::file::Ready;
use super::machine::Machine;
use super::state::State;
use crate::progress::Watch;
use sheaf_config::node::{NodeConfig, Then};
use sheaf_host::tty::Terminal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use terminal::{Draw, Screen};

/// What the screens can ask for. Errors are words for the operator.
pub trait Effects: Send + Sync {
    /// Looks at the machine and its medium.
    fn look(&self) -> Result<Machine, String>;
    /// Sets the network up as `config` has it and tries it; tells all checks each time one of them changes.
    fn try_network(&self, config: &NodeConfig, tell: &mut dyn FnMut(Vec<Check>));
    /// The text of `admin.pub` on the drive labelled SHEAF-CONF.
    fn admin_key(&self) -> Result<String, String>;
    /// Writes a file to that drive; says where it is.
    fn save(&self, name: &str, text: &str) -> Result<String, String>;
    /// Installs.
    fn install(&self, ready: &Ready, watch: Watch) -> Result<(), Failed>;
    /// Ends: restarts or powers off.
    fn leave(&self, then: Then) -> Result<(), String>;
}

/// What comes to the one place that holds the state.
pub(crate) enum Message {
    /// Something happened.
    Event(Event),
    /// The machine is told to go down.
    Left,
    /// A terminal went away.
    Gone,
}

/// Shows an installation on `terminals` until the machine leaves it, or no terminal is left.
pub fn run(terminals: Vec<Arc<dyn Terminal>>, effects: Arc<dyn Effects>) {
    let (sender, inbox) = channel();
    let (mut state, actions) = State::start();
    let screens: Vec<Screen> =
        terminals.into_iter().map(|terminal| Screen::start(terminal, sender.clone())).collect();
    let mut left = screens.len();
    actions.into_iter().for_each(|action| perform(action, &effects, &sender));
    while left > 0 {
        let shown = Arc::new(state.clone());
        screens.iter().for_each(|screen| screen.draw(Draw::State(shown.clone())));
        let Some(messages) = next(&inbox) else { break };
        for message in messages {
            match message {
                Message::Event(event) => {
                    let actions = state.update(event);
                    actions.into_iter().for_each(|action| perform(action, &effects, &sender));
                }
                Message::Gone => left -= 1,
                Message::Left => left = 0,
            }
        }
    }
    screens.into_iter().for_each(Screen::finish);
}

/// Waits for a message, and takes what has come with it: a pasted key is drawn once.
fn next(inbox: &Receiver<Message>) -> Option<Vec<Message>> {
    loop {
        match inbox.recv_timeout(Duration::from_secs(60)) {
            Ok(first) => return Some(std::iter::once(first).chain(inbox.try_iter()).collect()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Carries out `action` beside everything else; what comes of it is a message. A message that nobody receives any more
/// is of no use to anyone.
fn perform(action: Action, effects: &Arc<dyn Effects>, sender: &Sender<Message>) {
    let (effects, sender) = (effects.clone(), sender.clone());
    std::thread::spawn(move || {
        let send = |event| drop(sender.send(Message::Event(event)));
        match action {
            Action::Look => send(Event::Looked(effects.look().map(Box::new))),
            Action::TryNetwork { run, config } => {
                let mut last = Vec::new();
                effects.try_network(&config, &mut |checks| {
                    last.clone_from(&checks);
                    send(Event::Checks { run, checks, done: false });
                });
                send(Event::Checks { run, checks: last, done: true });
            }
            Action::ReadAdminKey => send(Event::AdminKey(effects.admin_key())),
            Action::Save { name, text } => send(Event::Saved(effects.save(name, &text))),
            Action::Install(ready) => {
                let watcher = sender.clone();
                let watch = move |told| drop(watcher.send(Message::Event(Event::Told(told))));
                let result = effects.install(&ready, Box::new(watch));
                send(Event::Ended(result));
            }
            Action::Leave(then) => match effects.leave(then) {
                Ok(()) => drop(sender.send(Message::Left)),
                Err(why) => send(Event::StillHere(why)),
            },
        }
    });
}
