//! A screen and a keyboard: a VM's display over the RFB protocol, as a VNC viewer has it.
//!
//! Why here: what is installed by hand is installed by who sees the screen and types. Text is read off the pixels of a VGA text
//! screen of 80×25 characters: what shows it first shows all printable ASCII characters in two known lines ([`CALIBRATION`]), and
//! every other line is compared with those. Route in: a port at which `virtctl vnc --proxy-only` listens. Route out: lines of text,
//! keys pressed. RFC 6143.

use anyhow::{Context as _, Result, bail, ensure};
use sheaf_host::wait::until;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Lines 0 and 1 of a screen that is to be read: the characters from `!` to `~`, 47 a line.
pub const CALIBRATION: [&str; 2] =
    ["!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNO", "PQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"];
/// Characters of a line, and lines.
const COLUMNS: usize = 80;
const ROWS: usize = 25;
/// Longest wait for the next bytes of the server.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two looks at the screen.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for a key to show on the screen, emulated.
const ECHO: Duration = Duration::from_secs(30);
/// Pixels of the largest screen that is taken.
const MOST: usize = 4096 * 4096;
/// The Enter key, by X11's keysyms.
pub const ENTER: u32 = 0xff0d;

/// Encodings: pixels as they are, and a change of the screen's size.
const RAW: i32 = 0;
const DESKTOP_SIZE: i32 = -223;

/// The pixels of a screen.
#[derive(Clone, Debug, Default)]
struct Picture {
    width: usize,
    height: usize,
    /// Red, green and blue in the low bytes, row by row.
    pixels: Vec<u32>,
}

/// A display that is connected.
pub struct Display<S> {
    stream: S,
    picture: Picture,
}

impl Display<TcpStream> {
    /// Connects to a VNC server that asks for no password.
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("the display")?;
        stream.set_read_timeout(Some(SILENCE))?;
        Self::over(stream)
    }
}

impl<S: Read + Write> Display<S> {
    /// The same over a stream.
    pub fn over(mut stream: S) -> Result<Self> {
        let version = take::<12>(&mut stream)?;
        ensure!(&version == b"RFB 003.008\n", "{:?}", String::from_utf8_lossy(&version));
        stream.write_all(&version)?;
        let [kinds] = take(&mut stream)?;
        let mut offered = vec![0; usize::from(kinds)];
        stream.read_exact(&mut offered)?;
        ensure!(offered.contains(&1), "the server wants a password: {offered:?}");
        stream.write_all(&[1])?;
        ensure!(take(&mut stream)? == [0; 4], "the server refuses");
        stream.write_all(&[1])?; // others may look, too
        let head = take::<24>(&mut stream)?;
        let mut name = vec![0; u32::from_be_bytes([head[20], head[21], head[22], head[23]]) as usize];
        stream.read_exact(&mut name)?;
        // 32 bits a pixel, 24 of them used, little-endian, true colour: 8 bits each of red, green and blue.
        let format = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        stream.write_all(&[&[0, 0, 0, 0][..], &format].concat())?;
        let encodings = [RAW.to_be_bytes(), DESKTOP_SIZE.to_be_bytes()].concat();
        stream.write_all(&[&[2, 0, 0, 2][..], &encodings].concat())?;
        let mut display = Self { stream, picture: Picture::default() };
        display.resize(number(&head[0..2]), number(&head[2..4]))?;
        Ok(display)
    }

    fn resize(&mut self, width: usize, height: usize) -> Result<()> {
        ensure!(width * height <= MOST, "a screen of {width}×{height}");
        self.picture = Picture { width, height, pixels: vec![0; width * height] };
        Ok(())
    }

    /// Reads the whole screen again.
    fn refresh(&mut self) -> Result<()> {
        loop {
            let Picture { width, height, .. } = self.picture;
            let size = [width, height].map(|side| u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes());
            self.stream.write_all(&[&[3, 0, 0, 0, 0, 0][..], &size[0], &size[1]].concat())?;
            // A screen of another size is asked for once more.
            if !self.update()? {
                return Ok(());
            }
        }
    }

    /// Reads up to the end of an update; true if the screen has another size since.
    fn update(&mut self) -> Result<bool> {
        loop {
            match take(&mut self.stream)? {
                [0] => break,
                // Colours of a palette, a bell, a clipboard.
                [1] => {
                    let head = take::<5>(&mut self.stream)?;
                    self.skip(number(&head[3..5]) * 6)?;
                }
                [2] => {}
                [3] => {
                    let head = take::<7>(&mut self.stream)?;
                    self.skip(u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize)?;
                }
                [other] => bail!("a message of kind {other} of the VNC server"),
            }
        }
        let head = take::<3>(&mut self.stream)?;
        let mut resized = false;
        for _ in 0..number(&head[1..3]) {
            let head = take::<12>(&mut self.stream)?;
            let [x, y, width, height] = [0, 2, 4, 6].map(|at| number(&head[at..at + 2]));
            match i32::from_be_bytes([head[8], head[9], head[10], head[11]]) {
                RAW => self.rectangle(x, y, width, height)?,
                DESKTOP_SIZE => {
                    self.resize(width, height)?;
                    resized = true;
                }
                other => bail!("pixels in encoding {other}, which was not asked for"),
            }
        }
        Ok(resized)
    }

    fn rectangle(&mut self, x: usize, y: usize, width: usize, height: usize) -> Result<()> {
        let picture = &self.picture;
        ensure!(x + width <= picture.width && y + height <= picture.height, "pixels outside the screen");
        let mut row = vec![0; width * 4];
        for line in y..y + height {
            self.stream.read_exact(&mut row)?;
            let start = line * self.picture.width + x;
            for (pixel, bytes) in self.picture.pixels[start..start + width].iter_mut().zip(row.chunks(4)) {
                *pixel = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
            }
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<()> {
        let mut left = vec![0; bytes.min(MOST)];
        Ok(self.stream.read_exact(&mut left)?)
    }

    /// Presses and releases a key.
    pub fn press(&mut self, key: u32) -> Result<()> {
        for down in [1, 0] {
            self.stream.write_all(&[&[4, down, 0, 0][..], &key.to_be_bytes()].concat())?;
        }
        Ok(())
    }

    /// The lines of the screen; none while it does not begin with [`CALIBRATION`].
    pub fn lines(&mut self) -> Result<Option<Vec<String>>> {
        self.refresh()?;
        Ok(self.picture.lines())
    }

    /// Waits until a line of the screen holds `words`.
    pub fn wait(&mut self, words: &str, timeout: Duration) -> Result<()> {
        let mut shown = String::new();
        let found = until(timeout, LOOK, || match self.lines() {
            Err(error) => Some(Err(error)),
            Ok(lines) => {
                shown = lines.map_or_else(|| "nothing that can be read".into(), |lines| lines.join("\n"));
                shown.contains(words).then_some(Ok(()))
            }
        });
        found.unwrap_or_else(|| {
            bail!("the screen does not show {words:?} within {timeout:?}, but:\n{}", shown.trim_end())
        })
    }

    /// Answers the question `prompt`: types `text`, lowercase letters and digits, each key once the one before shows, then Enter.
    pub fn answer(&mut self, prompt: &str, text: &str, timeout: Duration) -> Result<()> {
        self.wait(prompt, timeout)?;
        let mut typed = String::new();
        for key in text.chars() {
            ensure!(key.is_ascii_lowercase() || key.is_ascii_digit(), "{key:?} needs more than its key");
            self.press(key.into())?;
            typed.push(key);
            self.wait(&format!("{prompt} {typed}"), ECHO).with_context(|| format!("key {key:?}"))?;
        }
        self.press(ENTER)
    }
}

/// The next bytes of the server.
fn take<const N: usize>(stream: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).context("the VNC server ended the connection")?;
    Ok(bytes)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

impl Picture {
    /// The pixels of a character that are lit; none outside the screen.
    fn glyph(&self, column: usize, row: usize) -> Vec<bool> {
        let (width, height) = (self.width / COLUMNS, self.height / ROWS);
        let lit = |pixel: u32| pixel.to_le_bytes().iter().any(|colour| *colour > 64);
        let lines = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let at = |(x, y): (usize, usize)| (row * height + y) * self.width + column * width + x;
        lines.map(|place| self.pixels.get(at(place)).is_some_and(|pixel| lit(*pixel))).collect()
    }

    fn lines(&self) -> Option<Vec<String>> {
        let mut known: HashMap<Vec<bool>, char> = HashMap::new();
        for (row, line) in CALIBRATION.iter().enumerate() {
            for (column, character) in line.chars().enumerate() {
                known.insert(self.glyph(column, row), character);
            }
        }
        let blank = vec![false; self.width / COLUMNS * (self.height / ROWS)];
        let all = CALIBRATION.iter().map(|line| line.len()).sum::<usize>();
        // Two alike, or an empty one: it is another screen.
        if known.len() != all || known.contains_key(&blank) {
            return None;
        }
        known.insert(blank, ' ');
        let character = |column, row| known.get(&self.glyph(column, row)).copied().unwrap_or('?');
        let line = |row| (0..COLUMNS).map(|column| character(column, row)).collect::<String>();
        Some((0..ROWS).map(|row| line(row).trim_end().to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A screen whose characters are their codes' bits, in the first line of each cell.
    fn picture(lines: &[&str]) -> Picture {
        let (width, height) = (COLUMNS * 9, ROWS * 16);
        let mut pixels = vec![0; width * height];
        for (row, line) in lines.iter().enumerate() {
            for (column, code) in line.bytes().enumerate().filter(|(_, code)| *code != b' ') {
                for bit in (0..8).filter(|bit| code >> bit & 1 == 1) {
                    pixels[row * 16 * width + column * 9 + bit] = 0x00aa_aaaa;
                }
            }
        }
        Picture { width, height, pixels }
    }

    #[test]
    fn lines_are_read_by_the_characters_that_the_screen_begins_with() {
        let shown = [CALIBRATION[0], CALIBRATION[1], "", "Disk to install on: vda"];
        let lines = picture(&shown).lines().unwrap();
        assert_eq!(lines[..4], shown);
        assert!(lines[4..].iter().all(String::is_empty));
        assert_eq!(picture(&["GRUB loading.", CALIBRATION[1]]).lines(), None);
        assert_eq!(Picture::default().lines(), None);
    }

    /// What a server says, and what is said to it.
    struct Server {
        says: Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Server {
        fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
            self.says.read(bytes)
        }
    }

    impl Write for Server {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.heard.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_screen_that_changes_its_size_is_read_whole_and_a_key_goes_down_and_up() {
        let format = [0; 16];
        let name = [0, 0, 0, 1, b'x'];
        let greeting = [&b"RFB 003.008\n"[..], &[1, 1], &[0; 4], &[0, 2, 0, 1], &format, &name].concat();
        let grown =
            [&[2][..], &[0, 0, 0, 1], &[0, 0, 0, 0, 0, 1, 0, 2], &DESKTOP_SIZE.to_be_bytes()].concat();
        let pixels = [1, 2, 3, 0, 4, 5, 6, 0];
        let whole = [&[0, 0, 0, 1][..], &[0, 0, 0, 0, 0, 1, 0, 2], &RAW.to_be_bytes(), &pixels].concat();
        let says = Cursor::new([greeting, grown, whole].concat());
        let mut display = Display::over(Server { says, heard: Vec::new() }).unwrap();
        display.refresh().unwrap();
        assert_eq!((display.picture.width, display.picture.height), (1, 2));
        assert_eq!(display.picture.pixels, [0x0003_0201, 0x0006_0504]);
        display.stream.heard.clear();
        display.press(ENTER).unwrap();
        assert_eq!(display.stream.heard, [4, 1, 0, 0, 0, 0, 0xff, 0x0d, 4, 0, 0, 0, 0, 0, 0xff, 0x0d]);
        let error = display.refresh().unwrap_err();
        assert!(format!("{error:#}").starts_with("the VNC server ended the connection"), "{error:#}");
    }
}
