//! A line, or several, of text that is being typed. Pure.

use super::key::Key;

/// Characters that fit: a PEM certificate of the largest kind, and nothing that could fill memory.
const LONGEST: usize = 16 << 10;

/// Text and the place in it where the next character goes, in characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    text: Vec<char>,
    cursor: usize,
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        Self { cursor: text.len(), text }
    }
}

impl Field {
    /// What was typed.
    pub fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// The cursor's place, in characters from the start.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Changes the text by `key`; says whether it was a key for a text.
    pub fn edit(&mut self, key: Key) -> bool {
        match key {
            Key::Char(char) if !char.is_control() => self.insert(char),
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::Delete if self.cursor < self.text.len() => drop(self.text.remove(self.cursor)),
            Key::Backspace | Key::Delete => {}
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            Key::Home | Key::Ctrl('a') => self.cursor = 0,
            Key::End | Key::Ctrl('e') => self.cursor = self.text.len(),
            Key::Ctrl('u') => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            _ => return false,
        }
        true
    }

    /// Puts `char` at the cursor, a line's end among them.
    pub fn insert(&mut self, char: char) {
        if self.text.len() < LONGEST {
            self.text.insert(self.cursor, char);
            self.cursor += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_edited_where_its_cursor_is() {
        let mut field = Field::from("node-1");
        let keys = [Key::Backspace, Key::Char('2'), Key::Home, Key::Char('a'), Key::Char('-'), Key::Delete];
        assert!(keys.into_iter().all(|key| field.edit(key)));
        assert_eq!((field.text().as_str(), field.cursor()), ("a-ode-2", 2));
        field.edit(Key::Ctrl('u'));
        assert_eq!(field.text(), "ode-2");
        assert!(!field.edit(Key::Tab));
    }

    #[test]
    fn its_ends_hold() {
        let mut field = Field::default();
        for key in [Key::Left, Key::Backspace, Key::Delete, Key::Right, Key::End] {
            assert!(field.edit(key));
        }
        assert_eq!(field, Field::default());
    }
}
