//! Codes of an authenticator app: TOTP with what every app takes, SHA-1, six digits, 30 seconds.
//!
//! Why here: HMAC is in the program already, and the rest is a page of RFC 4226 and RFC 6238, tested by their vectors; a crate would
//! bring a second HMAC. Pure. Route in: a secret, the time. Route out: codes, `otpauth://` URI.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// Bytes of a secret: as long as what SHA-1 makes of it (RFC 4226, section 4, R6).
pub const SECRET: usize = 20;
/// Seconds of a code.
pub const STEP: u64 = 30;
/// Steps before and after now whose codes are taken, too: clocks differ, and people type slowly (RFC 6238, section 5.2).
const TOLERATED: u64 = 1;

/// The code of a step.
pub fn code(secret: &[u8], step: u64) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else { return String::new() };
    mac.update(&step.to_be_bytes());
    let sum = mac.finalize().into_bytes();
    // RFC 4226, section 5.3: the last four bits say where 31 bits are taken from.
    let at = usize::from(sum[19] & 0xf);
    let number = sum[at..at + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

/// The step of which `typed` is the code at `now`, later than `last`: a code is good once.
pub fn step_of(secret: &[u8], typed: &str, now: u64, last: u64) -> Option<u64> {
    let this = now / STEP;
    let steps = this.saturating_sub(TOLERATED)..=this + TOLERATED;
    // All are compared, whichever is right: how long it takes tells nothing.
    let right = steps.filter(|step| crate::hash::same(&code(secret, *step), typed)).max();
    right.filter(|step| *step > last)
}

/// RFC 4648, without padding.
pub fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits = bytes.len() * 8;
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let letter = |at: usize| (0..5).fold(0, |five, offset| five << 1 | bit(at + offset));
    (0..bits).step_by(5).map(|at| char::from(ALPHABET[usize::from(letter(at))])).collect()
}

/// What [`base32`] made, as bytes; none for any other text.
pub fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes() {
        let five = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        held = held << 5 | u32::from(five);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// What an app reads from a picture or a link. `user` has no character that would be escaped.
/// Source: github.com/google/google-authenticator, wiki, Key-Uri-Format.
pub fn uri(user: &str, secret: &[u8]) -> String {
    format!(
        "otpauth://totp/Sheaf:{user}?secret={}&issuer=Sheaf&algorithm=SHA1&digits=6&period=30",
        base32(secret)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, SHA-1; the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (time, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(b"12345678901234567890", time / STEP), expected, "{time}");
        }
    }

    /// RFC 4226, appendix D.
    #[test]
    fn counters_are_those_of_the_rfc() {
        let expected = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
            "520489",
        ];
        for (step, expected) in (0..).zip(expected) {
            assert_eq!(code(b"12345678901234567890", step), expected);
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_a_minute_and_a_half() {
        let secret = b"12345678901234567890";
        let now = 1_234_567_890;
        let this = now / STEP;
        for (step, taken) in
            [(this - 2, false), (this - 1, true), (this, true), (this + 1, true), (this + 2, false)]
        {
            assert_eq!(step_of(secret, &code(secret, step), now, 0), taken.then_some(step));
        }
        assert_eq!(step_of(secret, &code(secret, this), now, this), None, "it was used");
        assert_eq!(
            step_of(secret, &code(secret, this - 1), now, this),
            None,
            "one before it is not taken after it"
        );
        for typed in ["", "00592", "0059240", "x05924"] {
            assert_eq!(step_of(secret, typed, now, 0), None, "{typed}");
        }
    }

    /// RFC 4648, section 10.
    #[test]
    fn secrets_are_written_as_apps_read_them() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
            assert_eq!(from_base32(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(from_base32("MZXW6=="), None);
        assert_eq!(
            uri("alice", b"12345678901234567890"),
            "otpauth://totp/Sheaf:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Sheaf&algorithm=SHA1&digits=6&period=30"
        );
    }
}
