//! Bytes of a terminal to keys. Pure.
//!
//! Why our own: an initrd has no terminfo, and the few sequences that Linux's console, VT220 and xterm send for the
//! same keys are known. Route in: bytes as they come, in pieces. Route out: [`Input`]s, for [`super::state`].

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Key {
    Char(char),
    Ctrl(char),
    Enter,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Escape,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    /// F1 is 1.
    Function(u8),
}

/// What a terminal sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key was pressed.
    Key(Key),
    /// The terminal says where its cursor is: row and column, from 1. Asked after moving it to the far corner, this
    /// is the terminal's size.
    Cursor {
        /// Row.
        row: u16,
        /// Column.
        column: u16,
    },
}

/// Asks for [`Input::Cursor`] at the far corner.
pub const ASK_SIZE: &str = "\x1b[999;999H\x1b[6n";

/// Longest sequence that means anything, in bytes; what continues longer is noise on the line.
const LONGEST: usize = 16;

/// Turns bytes into keys.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Decoder {
    /// The keys that `bytes` complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Input> {
        self.pending.extend_from_slice(bytes);
        let mut inputs = Vec::new();
        loop {
            match first(&self.pending) {
                First::Nothing => return inputs,
                First::Unfinished if self.pending.len() < LONGEST => return inputs,
                First::Unfinished => self.pending.clear(),
                First::Input(length, input) => {
                    let byte = self.pending[0];
                    self.pending.drain(..length);
                    let repeated = byte == b'\n' && self.after_return;
                    self.after_return = byte == b'\r';
                    inputs.extend(input.filter(|_| !repeated));
                }
            }
        }
    }

    /// Nothing followed for a while: an escape byte that waits was the key of that name.
    pub fn silence(&mut self) -> Option<Input> {
        let alone = self.pending == [ESC];
        self.pending.clear();
        alone.then_some(Input::Key(Key::Escape))
    }

    /// Whether something waits for its end.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }
}

const ESC: u8 = 0x1b;

enum First {
    Nothing,
    Unfinished,
    /// So many bytes, and what they mean, if anything.
    Input(usize, Option<Input>),
}

fn first(bytes: &[u8]) -> First {
    let key = |length, key| First::Input(length, Some(Input::Key(key)));
    match *bytes {
        [] => First::Nothing,
        [ESC, b'[', ..] => control_sequence(bytes),
        [ESC, b'O', last, ..] => First::Input(3, named(last).map(Input::Key)),
        [ESC] | [ESC, b'O'] => First::Unfinished,
        [ESC, ..] => key(1, Key::Escape),
        [b'\r' | b'\n', ..] => key(1, Key::Enter),
        [b'\t', ..] => key(1, Key::Tab),
        [0x08 | 0x7f, ..] => key(1, Key::Backspace),
        [byte @ 1..=26, ..] => key(1, Key::Ctrl(char::from(byte - 1 + b'a'))),
        [byte, ..] if byte < b' ' => First::Input(1, None),
        [byte, ..] => {
            let length = match byte {
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf7 => 4,
                _ => 1,
            };
            if bytes.len() < length {
                return First::Unfinished;
            }
            match std::str::from_utf8(&bytes[..length]).ok().and_then(|text| text.chars().next()) {
                Some(char) => key(length, Key::Char(char)),
                None => First::Input(1, None),
            }
        }
    }
}

/// `ESC [`, parameters, a letter or `~`; Linux's console alone writes F1 to F5 as `ESC [ [ A` to `E`.
fn control_sequence(bytes: &[u8]) -> First {
    if let [ESC, b'[', b'[', rest @ ..] = bytes {
        return match rest {
            [] => First::Unfinished,
            [letter @ b'A'..=b'E', ..] => First::Input(4, Some(Input::Key(Key::Function(letter - b'A' + 1)))),
            _ => First::Input(4, None),
        };
    }
    let Some(end) = bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
        return First::Unfinished;
    };
    let (text, last) = (&bytes[2..2 + end], bytes[2 + end]);
    let text = String::from_utf8_lossy(text);
    let mut numbers = text.split(';').map(|number| number.parse::<u16>().ok());
    let (one, two) = (numbers.next().flatten(), numbers.next().flatten());
    let input = match (last, one, two) {
        (b'R', Some(row), Some(column)) => Some(Input::Cursor { row, column }),
        (b'~', Some(number), _) => numbered(number).map(Input::Key),
        (b'Z', ..) => Some(Input::Key(Key::BackTab)),
        (last, ..) => named(last).map(Input::Key),
    };
    First::Input(3 + end, input)
}

/// Keys that end in a letter.
fn named(last: u8) -> Option<Key> {
    Some(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'M' => Key::Enter, // of the keypad
        b'P'..=b'S' => Key::Function(last - b'P' + 1),
        _ => return None,
    })
}

/// Keys that end in `~`, as VT220 numbers them; markers of pasted text (200, 201) mean nothing.
fn numbered(number: u16) -> Option<Key> {
    Some(match number {
        1 | 7 => Key::Home,
        3 => Key::Delete,
        4 | 8 => Key::End,
        5 => Key::PageUp,
        6 => Key::PageDown,
        11..=15 => Key::Function(number as u8 - 10),
        17..=21 => Key::Function(number as u8 - 11),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &str) -> Vec<Key> {
        let inputs = Decoder::default().feed(bytes.as_bytes());
        inputs
            .into_iter()
            .filter_map(|input| match input {
                Input::Key(key) => Some(key),
                Input::Cursor { .. } => None,
            })
            .collect()
    }

    #[test]
    fn f1_is_known_from_linux_vt220_and_xterm() {
        for sequence in ["\x1b[[A", "\x1b[11~", "\x1bOP"] {
            assert_eq!(keys(sequence), [Key::Function(1)], "{sequence:?}");
        }
    }

    #[test]
    fn arrows_are_known_in_both_cursor_modes() {
        assert_eq!(keys("\x1b[A\x1bOB\x1b[1;5C\x1b[Z"), [Key::Up, Key::Down, Key::Right, Key::BackTab]);
    }

    #[test]
    fn return_and_line_feed_of_a_serial_client_are_one_enter() {
        assert_eq!(keys("\r\n\r\n\n\r"), [Key::Enter, Key::Enter, Key::Enter, Key::Enter]);
    }

    #[test]
    fn a_sequence_may_come_in_pieces() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert_eq!(decoder.feed(b"["), []);
        assert_eq!(decoder.feed(b"3~"), [Input::Key(Key::Delete)]);
        assert!(!decoder.is_waiting());
    }

    #[test]
    fn an_escape_that_nothing_follows_is_the_key() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert_eq!(decoder.silence(), Some(Input::Key(Key::Escape)));
        assert_eq!(decoder.silence(), None);
    }

    #[test]
    fn a_terminal_tells_its_size() {
        let inputs = Decoder::default().feed(b"\x1b[24;80R");
        assert_eq!(inputs, [Input::Cursor { row: 24, column: 80 }]);
    }

    #[test]
    fn noise_on_the_line_is_no_key_and_does_not_stop_what_follows() {
        assert_eq!(keys("\0\x1b[200~a\x1b[201~"), [Key::Char('a')]);
        let mut decoder = Decoder::default();
        decoder.feed(b"\x1b[00000000000000000000");
        decoder.silence();
        assert_eq!(decoder.feed("\u{e9}x".as_bytes()).len(), 2);
        for byte in 0..=255u8 {
            decoder.feed(&[byte, 0xff, byte]);
        }
        decoder.silence();
        assert_eq!(decoder.feed(b"a"), [Input::Key(Key::Char('a'))]);
    }
}
