//! Names that the agent gives to things of the machine.
//!
//! Why here: who makes a thing and who meets it must agree on its name. Pure.

/// Hexadecimal digits of the VMI's UID in the name of a tap: what fits into the kernel's 15 characters.
const DIGITS: usize = 10;

/// Name of the tap of interface number `index` of the VMI `uid`: the same at every time, and told from all others.
pub fn tap(uid: &str, index: usize) -> String {
    let digits: String = uid.chars().filter(char::is_ascii_hexdigit).take(DIGITS).collect();
    format!("vm{digits}n{index:x}").to_ascii_lowercase()
}

/// Whether `link` is the tap of a VM: of ours, or by libvirt's own naming.
pub fn is_tap(link: &str) -> bool {
    let ours = link.strip_prefix("vm").and_then(|rest| rest.split_once('n')).is_some_and(|(uid, index)| {
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        uid.len() == DIGITS && index.len() == 1 && hex(uid) && hex(index)
    });
    ours || link.starts_with("vnet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_named_by_its_vm_within_what_the_kernel_takes() {
        let name = tap("0B0E6D2C-6A4E-4c9f-9a53-0d0e1f2a3b4c", 15);
        assert_eq!(name, "vm0b0e6d2c6anf");
        assert!(name.len() <= 15);
        assert!(is_tap(&name) && is_tap("vnet7"));
        assert!(!is_tap("vmbr0") && !is_tap("vm-uplink0") && !is_tap("enp1s0"));
    }
}
