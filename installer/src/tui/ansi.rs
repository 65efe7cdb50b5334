//! ratatui's way to a terminal: the control sequences that every terminal since the VT220 knows.
//!
//! Why our own: two terminals show one installation, of which a serial line has no size and no terminfo; crossterm
//! knows one terminal, that of the process. Everything shown is ASCII: neither a console's font nor a serial client is
//! asked for more. Route in: cells that changed. Route out: bytes for [`sheaf_host::tty::Terminal`].

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use sheaf_host::tty::Terminal;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

/// What a terminal that tells no size is taken for.
pub const SMALLEST: (u16, u16) = (80, 24);

/// One terminal as ratatui sees it.
pub struct Ansi {
    terminal: Arc<dyn Terminal>,
    size: Size,
    pending: String,
}

impl Ansi {
    /// Draws on `terminal`.
    pub fn new(terminal: Arc<dyn Terminal>) -> Self {
        let (width, height) = terminal.size().unwrap_or(SMALLEST);
        Self { terminal, size: Size { width, height }, pending: String::new() }
    }

    /// The terminal is of this size.
    pub fn set_size(&mut self, width: u16, height: u16) {
        self.size = Size { width, height };
    }

    /// Sends `text` with whatever is drawn next.
    pub fn send(&mut self, text: &str) {
        self.pending.push_str(text);
    }

    fn style(&mut self, cell: &Cell) {
        self.pending.push_str("\x1b[0");
        for (modifier, code) in [(Modifier::BOLD, ";1"), (Modifier::REVERSED, ";7")] {
            if cell.modifier.contains(modifier) {
                self.pending.push_str(code);
            }
        }
        let colour = match cell.fg {
            Color::Red => ";31",
            Color::Green => ";32",
            Color::Yellow => ";33",
            Color::Cyan => ";36",
            _ => "",
        };
        self.pending.push_str(colour);
        self.pending.push('m');
    }
}

impl Backend for Ansi {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, cells: I) -> io::Result<()> {
        let mut next = None;
        let mut shown: Option<(Modifier, Color)> = None;
        for (x, y, cell) in cells {
            if next != Some((x, y)) {
                let _ = write!(self.pending, "\x1b[{};{}H", y + 1, x + 1); // to a String: never fails
            }
            if shown != Some((cell.modifier, cell.fg)) {
                self.style(cell);
                shown = Some((cell.modifier, cell.fg));
            }
            let symbol = cell.symbol();
            let plain = symbol.len() == 1 && symbol.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            self.pending.push_str(if plain { symbol } else { "?" });
            next = Some((x + 1, y));
        }
        if shown.is_some() {
            self.pending.push_str("\x1b[0m");
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[?25h");
        Ok(())
    }

    /// Nobody here asks for it; a terminal's answer would come among the keys.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        let _ = write!(self.pending, "\x1b[{};{}H", y + 1, x + 1);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.pending.push_str("\x1b[0m\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.terminal.write(std::mem::take(&mut self.pending).as_bytes())
    }
}
