//! Whatever comes from the network as an ARP frame or as a time: it is read or it says nothing.
//!
//! Route in: true ones, changed at random. Route out: [`sheaf_fuzz`].

use super::{arp, ntp};
use sheaf_fuzz::fuzz;
use std::net::Ipv4Addr;

#[test]
fn a_frame_claims_an_address_only_for_its_sender() {
    let (ours, theirs) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
    let address = Ipv4Addr::new(192, 0, 2, 10);
    fuzz("ARP frames", |random| {
        let mut frame = arp::question(theirs, Ipv4Addr::new(192, 0, 2, 99));
        frame[28..32].copy_from_slice(&address.octets());
        if random.once_in(2) {
            random.change(&mut frame, &[]);
        } else {
            let at = random.below(frame.len());
            frame[at] = random.byte();
        }
        let Some(mac) = arp::claim(&frame, ours, address) else { return false };
        let sender: Vec<String> = frame[22..28].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(mac, sender.join(":"));
        assert!(frame[22..28] != ours && frame[28..32] == address.octets());
        true
    });
}

#[test]
fn a_time_is_a_number_or_none() {
    // 2026, and the end of NTP's era in 2036.
    let times = [3_976_214_400.0, 4_294_967_295.5];
    fuzz("answers of time servers", |random| {
        let sent = *random.of(&times);
        let mut question = [0; 48];
        question[0] = 0x23;
        question[40..48].copy_from_slice(&ntp::stamp(sent));
        let mut answer = question.to_vec();
        (answer[0], answer[1]) = (0x24, 2);
        answer.copy_within(40..48, 24);
        for field in [32, 40] {
            answer[field..field + 8].copy_from_slice(&random.next().to_be_bytes());
        }
        if random.once_in(2) {
            random.change(&mut answer, &[]);
        }
        let Some(ahead) = ntp::ahead(&question, &answer, sent, sent + 0.1) else { return false };
        assert!(ahead.is_finite() && ahead.abs() <= 2_f64.powi(32), "{ahead}");
        true
    });
}
