//! Whatever a server that is not yet known answers for cluster-info, nothing panics or hangs, and nothing passes for signed
//! that is not.
//!
//! Route in: a true cluster-info, changed at random. Route out: [`sheaf_fuzz`].

use sheaf_config::cluster_info::ClusterInfo;
use sheaf_config::pin::CaPin;
use sheaf_fuzz::fuzz;

/// In the form that kubeadm gives it, signed for the token below.
const INFO: &str = include_str!("../cluster-info.json");
const ID: &str = "abcdef";
const SECRET: &str = "0123456789abcdef";
/// What the format is made of.
const WORDS: [&str; 14] = [
    "..",
    "jws-kubeconfig-abcdef",
    "kubeconfig",
    "clusters",
    "\\n",
    "- ",
    ": ",
    "&a ",
    "*a",
    "{",
    "[",
    "\\u0000",
    "null",
    "certificate-authority-data",
];

#[test]
fn no_answer_panics_the_parser_or_passes_for_signed() {
    let original = ClusterInfo::parse(INFO.as_bytes()).unwrap();
    original.verify(ID, SECRET).unwrap();
    original.ca().unwrap();
    fuzz("cluster-info", |random| {
        let mut bytes = INFO.as_bytes().to_vec();
        random.change(&mut bytes, &WORDS);
        let Ok(info) = ClusterInfo::parse(&bytes) else { return false };
        if let Ok(ca) = info.ca() {
            let _ = CaPin::of_certificate(&ca);
        }
        let _ = info.is_signed_for(ID);
        if info.verify(ID, SECRET).is_ok() {
            assert_eq!(info.kubeconfig, original.kubeconfig, "{}", String::from_utf8_lossy(&bytes));
        }
        true
    });
}
