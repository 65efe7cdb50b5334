//! A picture of a VM's screen.
//!
//! Why here: QEMU shows a screen by the protocol of VNC alone, so this is a client of it for a moment (RFC 6143, version
//! 3.8): one picture in full, raw. It shares the display, so nobody who looks at it is disturbed. What comes is QEMU's word
//! for what a guest draws: sizes are bounded. Route in: a connection to the display. Route out: a PNG. Blocks.

use std::io::{self, Read, Write};

/// Most pixels of a screen: 8 K.
const MOST_PIXELS: usize = 7680 * 4320;
/// Bytes of a pixel in the format that is asked for: blue, green, red, nothing.
const PIXEL: usize = 4;
/// Most requests for a picture until it is whole.
const TRIES: usize = 5;
/// The version that is spoken.
const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// No authentication: the connection was handed over by libvirt.
const NONE: u8 = 1;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ScreenshotError {
    /// The connection.
    #[error("the display broke off")]
    Broken(#[from] io::Error),
    /// QEMU does not do as the protocol says.
    #[error("the display does not answer as VNC: {0}")]
    Protocol(&'static str),
    /// It is too large.
    #[error("the screen has {0} × {1} pixels, more than can be kept")]
    TooLarge(u16, u16),
    /// It cannot be packed.
    #[error("the picture cannot be packed")]
    Png(#[from] png::EncodingError),
}

/// The screen of `display` as a PNG; `wake` moves the pointer first, which ends the guest's screen saver.
pub fn take<S: Read + Write>(display: S, wake: bool) -> Result<Vec<u8>, ScreenshotError> {
    let mut client = Client { stream: display };
    let (width, height) = client.begin()?;
    if wake {
        client.move_pointer()?;
    }
    let pixels = client.picture(width, height)?;
    pack(&pixels, width, height)
}

struct Client<S> {
    stream: S,
}

impl<S: Read + Write> Client<S> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut Read::take(&mut self.stream, length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Shakes hands; width and height.
    fn begin(&mut self) -> Result<(u16, u16), ScreenshotError> {
        if !self.bytes::<12>()?.starts_with(b"RFB 003.") {
            return Err(ScreenshotError::Protocol("another version"));
        }
        self.stream.write_all(VERSION)?;
        let [count] = self.bytes()?;
        let mut kinds = vec![0; usize::from(count)];
        self.stream.read_exact(&mut kinds)?;
        if !kinds.contains(&NONE) {
            return Err(ScreenshotError::Protocol("it asks for a password"));
        }
        self.stream.write_all(&[NONE])?;
        if self.bytes::<4>()? != [0; 4] {
            return Err(ScreenshotError::Protocol("it refuses the connection"));
        }
        // Shared.
        self.stream.write_all(&[1])?;
        let [a, b, c, d] = self.bytes()?;
        let (width, height) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        // Its own format, and its name.
        self.skip(16)?;
        let name = u32::from_be_bytes(self.bytes()?);
        self.skip(name.into())?;
        if usize::from(width) * usize::from(height) > MOST_PIXELS {
            return Err(ScreenshotError::TooLarge(width, height));
        }
        // SetPixelFormat: 32 bits, 24 of them colour, little-endian, true colour, 255 each, red << 16, green << 8, blue.
        let format = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        self.stream.write_all(&[&[0, 0, 0, 0][..], &format].concat())?;
        // SetEncodings: raw.
        self.stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0])?;
        Ok((width, height))
    }

    fn move_pointer(&mut self) -> io::Result<()> {
        // PointerEvent without a button, in two places.
        self.stream.write_all(&[5, 0, 0, 1, 0, 1, 5, 0, 0, 0, 0, 0])
    }

    fn picture(&mut self, width: u16, height: u16) -> Result<Vec<u8>, ScreenshotError> {
        let whole = usize::from(width) * usize::from(height);
        let mut pixels = vec![0; whole * PIXEL];
        for _ in 0..TRIES {
            // FramebufferUpdateRequest, all of it.
            let [a, b] = width.to_be_bytes();
            let [c, d] = height.to_be_bytes();
            self.stream.write_all(&[3, 0, 0, 0, 0, 0, a, b, c, d])?;
            if self.update(&mut pixels, usize::from(width), usize::from(height))? >= whole {
                return Ok(pixels);
            }
        }
        Err(ScreenshotError::Protocol("it sends parts of a picture only"))
    }

    /// Puts the next update into `pixels`; how many pixels it had.
    fn update(&mut self, pixels: &mut [u8], width: usize, height: usize) -> Result<usize, ScreenshotError> {
        loop {
            match self.bytes()? {
                [0] => break,
                // SetColourMapEntries
                [1] => {
                    let [_, _, _, a, b] = self.bytes()?;
                    self.skip(u64::from(u16::from_be_bytes([a, b])) * 6)?;
                }
                // Bell
                [2] => {}
                // ServerCutText
                [3] => {
                    let [_, _, _, a, b, c, d] = self.bytes()?;
                    self.skip(u32::from_be_bytes([a, b, c, d]).into())?;
                }
                _ => return Err(ScreenshotError::Protocol("an unknown message")),
            }
        }
        let [_, a, b] = self.bytes()?;
        let mut seen = 0;
        for _ in 0..u16::from_be_bytes([a, b]) {
            let head: [u8; 12] = self.bytes()?;
            let number = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
            let (x, y, w, h) = (number(0), number(2), number(4), number(6));
            if head[8..] != [0; 4] || x + w > width || y + h > height {
                return Err(ScreenshotError::Protocol("a rectangle that was not asked for"));
            }
            for row in y..y + h {
                let start = (row * width + x) * PIXEL;
                let line = pixels.get_mut(start..start + w * PIXEL);
                self.stream.read_exact(line.ok_or(ScreenshotError::Protocol("a rectangle outside"))?)?;
            }
            seen += w * h;
        }
        Ok(seen)
    }
}

fn pack(pixels: &[u8], width: u16, height: u16) -> Result<Vec<u8>, ScreenshotError> {
    let colours: Vec<u8> =
        pixels.chunks_exact(PIXEL).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width.into(), height.into());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&colours)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A display that has said all it will say.
    struct Played {
        says: io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Played {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.says.read(buffer)
        }
    }

    impl Write for Played {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a display says that is `width` wide and one pixel high, before its pictures.
    fn hands(width: u16) -> Vec<u8> {
        let [a, b] = width.to_be_bytes();
        [&VERSION[..], &[2, 2, NONE], &[0; 4], &[a, b, 0, 1], &[0; 16], &[0, 0, 0, 4], b"QEMU"].concat()
    }

    fn rectangle(x: u8, width: u8, pixels: &[u8]) -> Vec<u8> {
        [&[0, x, 0, 0, 0, width, 0, 1, 0, 0, 0, 0][..], pixels].concat()
    }

    fn shot(says: Vec<u8>) -> (Result<Vec<u8>, ScreenshotError>, Vec<u8>) {
        let mut played = Played { says: io::Cursor::new(says), heard: Vec::new() };
        (take(&mut played, true), played.heard)
    }

    #[test]
    fn a_screen_becomes_a_png_of_its_colours_whatever_else_is_said_meanwhile() {
        let pictures = [
            // A bell, a text for the clipboard, then one pixel, which is not all; then both.
            &[2, 3, 0, 0, 0, 0, 0, 0, 2, b'h', b'i', 0, 0, 0, 1][..],
            &rectangle(0, 1, &[1, 2, 3, 0]),
            &[0, 0, 0, 2],
            &rectangle(0, 1, &[30, 20, 10, 0]),
            &rectangle(1, 1, &[60, 50, 40, 0]),
        ];
        let (file, heard) = shot([hands(2), pictures.concat()].concat());
        let file = file.unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(&file)).read_info().unwrap();
        let mut colours = [0; 6];
        let info = reader.next_frame(&mut colours).unwrap();
        assert_eq!((info.width, info.height, colours), (2, 1, [10, 20, 30, 40, 50, 60]));
        assert!(heard.starts_with(VERSION) && heard[12..14] == [NONE, 1], "it shares the display");
    }

    #[test]
    fn what_a_display_must_not_say_is_an_error_and_no_memory() {
        let error = |says: Vec<u8>| shot(says).0.unwrap_err().to_string();
        assert_eq!(error(b"HTTP/1.1 200".to_vec()), "the display does not answer as VNC: another version");
        let password = [&VERSION[..], &[1, 2]].concat();
        assert!(error(password).contains("password"));
        let outside = [hands(1), vec![0, 0, 0, 1], rectangle(0, 2, &[0; 8])].concat();
        assert!(error(outside).contains("rectangle"));
        let mut large = hands(0xffff);
        large.truncate(19);
        large.extend([0xff; 4]);
        large.extend([0; 20]);
        assert!(error(large).contains("65535 × 65535"));
        assert_eq!(error(hands(1)), "the display broke off");
    }
}
