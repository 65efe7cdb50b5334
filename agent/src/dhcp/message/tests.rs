//! Requests as clients and others send them, and the answers; the frames are also sent by `super::super`'s tests.

use super::*;

pub(in crate::dhcp) const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];
const OWN: Ipv4Addr = Ipv4Addr::new(100, 127, 240, 7);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(100, 127, 240, 8);

/// A client with `mac` looks for servers.
pub(in crate::dhcp) fn discover(mac: [u8; 6]) -> Vec<u8> {
    with_options(mac, [0; 4], &[&[KIND, 1, DISCOVER]])
}

fn with_options(mac: [u8; 6], client: [u8; 4], options: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 9, 8, 7, 6, 0, 0, 0, 0];
    message.extend(client);
    message.resize(28, 0);
    message.extend(mac);
    message.resize(236, 0);
    message.extend(COOKIE);
    message.extend(options.concat());
    message.push(255);
    message
}

fn leases() -> Leases {
    [(MAC, OWN), ([0x02, 0, 0, 0, 0, 2], FOREIGN)].into()
}

fn asked(message: &[u8]) -> Option<Vec<u8>> {
    answer(&Request::parse(message)?, &leases(), SERVER_MAC)
}

/// Kind, address given, destination of a frame.
fn read(frame: &[u8]) -> (u8, Ipv4Addr, Ipv4Addr) {
    let address = |at: usize| -> Ipv4Addr { <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into() };
    let [kind] = option(&frame[14 + 20 + 8 + HEAD..], KIND).unwrap() else { panic!("{frame:?}") };
    (*kind, address(14 + 20 + 8 + 16), address(14 + 16))
}

#[test]
fn a_client_is_offered_and_given_its_own_address_whatever_it_asks_for() {
    let offer = asked(&discover(MAC)).unwrap();
    assert_eq!(read(&offer), (OFFER, OWN, OWN));
    assert_eq!((&offer[..6], &offer[6..12]), (&MAC[..], &SERVER_MAC[..]), "to the one that asked alone");
    let request = |wanted: Ipv4Addr| {
        let wanted = [&[REQUESTED, 4][..], &wanted.octets()].concat();
        asked(&with_options(MAC, [0; 4], &[&[KIND, 1, REQUEST], &wanted])).unwrap()
    };
    assert_eq!(read(&request(OWN)), (ACK, OWN, OWN));
    assert_eq!(read(&request(FOREIGN)), (NAK, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    let renews = with_options(MAC, OWN.octets(), &[&[KIND, 1, REQUEST]]);
    assert_eq!(read(&asked(&renews).unwrap()), (ACK, OWN, OWN));
    let takes = with_options(MAC, FOREIGN.octets(), &[&[KIND, 1, REQUEST]]);
    assert_eq!(read(&asked(&takes).unwrap()).0, NAK);
}

#[test]
fn client_identifiers_give_no_second_address() {
    for id in 0..=255 {
        let discover = with_options(MAC, [0; 4], &[&[KIND, 1, DISCOVER], &[CLIENT_ID, 3, 0, 1, id]]);
        let offer = asked(&discover).unwrap();
        assert_eq!(read(&offer).1, OWN);
        assert_eq!(option(&offer[42 + HEAD..], CLIENT_ID), Some(&[0, 1, id][..]), "RFC 6842");
    }
}

#[test]
fn a_client_that_cannot_receive_unicast_gets_an_ip_broadcast_in_a_frame_of_its_own() {
    let mut message = discover(MAC);
    message[10] = 0x80;
    let offer = asked(&message).unwrap();
    assert_eq!((read(&offer).2, &offer[..6]), (Ipv4Addr::BROADCAST, &MAC[..]));
}

#[test]
fn strangers_other_servers_relays_and_other_messages_are_not_answered() {
    assert_eq!(asked(&discover([0x02, 0, 0, 0, 0, 9])), None);
    let other = [&[SERVER, 4][..], &FOREIGN.octets()].concat();
    assert_eq!(asked(&with_options(MAC, [0; 4], &[&[KIND, 1, REQUEST], &other])), None);
    let mut relayed = discover(MAC);
    relayed[24..28].copy_from_slice(&FOREIGN.octets());
    assert_eq!(asked(&relayed), None);
    for kind in [0, OFFER, 4, ACK, NAK, 7, INFORM, 9, 255] {
        assert_eq!(asked(&with_options(MAC, [0; 4], &[&[KIND, 1, kind]])), None, "{kind}");
    }
    let inform = with_options(MAC, OWN.octets(), &[&[KIND, 1, INFORM]]);
    assert_eq!(read(&asked(&inform).unwrap()), (ACK, Ipv4Addr::UNSPECIFIED, OWN));
}

#[test]
fn an_answer_is_a_frame_whose_lengths_and_checksums_are_right() {
    let frame = asked(&discover(MAC)).unwrap();
    let (ip, udp) = (&frame[14..34], &frame[34..]);
    assert_eq!(checksum(ip), 0);
    assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), frame.len() - 14);
    assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
    let pseudo = [&ip[12..20], &[0, 17], &udp[4..6], udp].concat();
    assert_eq!(checksum(&pseudo), 0);
    let options = &udp[8 + HEAD..];
    assert_eq!(option(options, MASK), Some(&[255, 255, 240, 0][..]));
    assert_eq!(option(options, NAME_SERVER), Some(&GATEWAY.octets()[..]));
    assert_eq!(udp.len(), 8 + SHORTEST);
}

mod fuzz {
    use super::*;

    /// Whatever arrives, there is no panic, and nobody gets an address other than its own.
    #[test]
    fn no_request_gives_anyone_an_address_that_is_not_its_own() {
        let whole = with_options(
            MAC,
            OWN.octets(),
            &[
                &[KIND, 1, REQUEST],
                &[REQUESTED, 4, 100, 127, 240, 7],
                &[CLIENT_ID, 7, 1, 2, 0, 0, 0, 0, 1],
                &[0, 0],
            ],
        );
        for length in 0..whole.len() {
            let _ = asked(&whole[..length]);
        }
        sheaf_fuzz::fuzz("DHCP", |random| {
            let mut message = whole.clone();
            for _ in 0..=random.below(8) {
                let at = random.below(message.len());
                message[at] = random.byte();
            }
            message.truncate(message.len() - random.below(3));
            let Some(frame) = asked(&message) else { return false };
            let (kind, given, _) = read(&frame);
            let to: [u8; 6] = frame[..6].try_into().unwrap();
            assert_eq!(to, message[28..34], "only to the one that asked");
            assert!(kind == NAK || given.is_unspecified() || leases()[&to] == given, "{message:?}");
            true
        });
    }
}
