//! The clock of a time server (SNTP, RFC 4330).
//!
//! Route in: a name or address. Route out: how far it is ahead of ours.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

/// Port of NTP.
const PORT: u16 = 123;
/// Seconds from NTP's epoch, 1900, to that of UNIX.
const EPOCH: f64 = 2_208_988_800.0;
/// Tries within the patience: a datagram may get lost.
const TRIES: u32 = 3;

pub(super) fn clock_ahead(server: &str, patience: Duration) -> io::Result<f64> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..TRIES {
        match ask(server, PORT, patience / TRIES) {
            Err(error) => last = error,
            answer => return answer,
        }
    }
    Err(last)
}

fn ask(server: &str, port: u16, patience: Duration) -> io::Result<f64> {
    let addresses: Vec<_> = std::net::ToSocketAddrs::to_socket_addrs(&(server, port))?.collect();
    let Some(address) = addresses.first() else { return Err(io::ErrorKind::NotFound.into()) };
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(address)?;
    let mut question = [0_u8; 48];
    question[0] = 0x23; // version 4, a client
    let sent = now();
    question[40..48].copy_from_slice(&stamp(sent));
    socket.send(&question)?;
    let mut answer = [0; 49]; // a byte more than an answer has
    let length = socket.recv(&mut answer)?;
    let received = now();
    ahead(&question, &answer[..length], sent, received)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer has no time"))
}

/// Seconds that the server of `answer` is ahead; nothing when that is no answer to `question`, or has no time.
pub(super) fn ahead(question: &[u8; 48], answer: &[u8], sent: f64, received: f64) -> Option<f64> {
    let answer: &[u8; 48] = answer.try_into().ok()?;
    let is_answer = answer[0] & 7 == 4 && answer[24..32] == question[40..48];
    // Stratum 0: the server refuses, or has no time itself.
    if !is_answer || answer[1] == 0 {
        return None;
    }
    let (theirs_in, theirs_out) = (seconds(&answer[32..40]), seconds(&answer[40..48]));
    Some(((theirs_in - sent) + (theirs_out - received)) / 2.0)
}

/// Seconds since NTP's epoch.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() + EPOCH
}

/// 32 bits of seconds, 32 bits of their fraction.
pub(super) fn stamp(seconds: f64) -> [u8; 8] {
    ((seconds * 2f64.powi(32)) as u64).to_be_bytes()
}

fn seconds(stamp: &[u8]) -> f64 {
    let fixed = stamp.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    fixed as f64 / 2f64.powi(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_an_hour_ahead_is_an_hour_ahead() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut packet = [0; 48];
            let (_, client) = server.recv_from(&mut packet).unwrap();
            packet.copy_within(40..48, 24);
            (packet[0], packet[1]) = (0x24, 2);
            let time = stamp(now() + 3600.0);
            packet[32..40].copy_from_slice(&time);
            packet[40..48].copy_from_slice(&time);
            server.send_to(&packet, client).unwrap();
        });
        let ahead = ask("127.0.0.1", port, Duration::from_secs(5)).unwrap();
        assert!((ahead - 3600.0).abs() < 1.0, "{ahead}");
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up_at_the_deadline() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let error = ask("127.0.0.1", port, Duration::from_millis(20)).unwrap_err();
        assert!(
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
            "{error:?}"
        );
        let mut packet = [0; 64];
        let (length, _) = server.recv_from(&mut packet).unwrap();
        assert_eq!((length, packet[0] & 7), (48, 3), "it was not asked as a client asks");
    }
}
