//! UEFI variables written into OVMF's store before a machine is switched on.
//!
//! Why here: QEMU's DHCP server cannot speak of HTTP boot, but firmware can be told the URL by a boot entry, as an
//! operator does in its menu. Layout: `EFI_FIRMWARE_VOLUME_HEADER` (PI specification, volume 3), then edk2's
//! `VARIABLE_STORE_HEADER` and `AUTHENTICATED_VARIABLE_HEADER`s, each at a multiple of 4 bytes.
//! Route in: an empty store and a URL. Route out: the store with one entry, booted next.

/// EFI_GLOBAL_VARIABLE, as bytes lie in memory.
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// Mark of a firmware volume, and where it stands.
const SIGNATURE: (&[u8], usize) = (b"_FVH", 40);
/// Where the length of the volume's header stands, in bytes.
const HEADER_LENGTH: usize = 48;
/// Length of the variable store's header in bytes.
const STORE_HEADER: usize = 28;
/// Start and state of a variable that is there.
const START: u16 = 0x55aa;
const ADDED: u8 = 0x3f;
/// Kept over power cuts, seen by boot loaders and by systems.
const ATTRIBUTES: u32 = 7;
/// Number of the entry: one that firmware does not take itself.
const ENTRY: u16 = 0x99;

/// Puts an entry for `url` into the empty store `vars`; the next start takes it, later ones do not.
pub fn boot_url_next(vars: &mut [u8], url: &str) -> std::io::Result<()> {
    let odd = || std::io::Error::other("is no store of UEFI variables of OVMF");
    if vars.get(SIGNATURE.1..SIGNATURE.1 + 4) != Some(SIGNATURE.0) {
        return Err(odd());
    }
    let header = usize::from(u16::from_le_bytes([vars[HEADER_LENGTH], vars[HEADER_LENGTH + 1]]));
    let mut at = header + STORE_HEADER;
    let number = |vars: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(vars.get(at..at + 4)?.try_into().ok()?))
    };
    while vars.get(at..at + 2) == Some(&START.to_le_bytes()) {
        let lengths = number(vars, at + 36).zip(number(vars, at + 40)).ok_or_else(odd)?;
        at = (at + 60 + lengths.0 as usize + lengths.1 as usize).next_multiple_of(4);
    }
    // Messaging device path, URI; end of the path.
    let length = (4 + url.len() as u16).to_le_bytes();
    let path = [&[3, 24][..], &length, url.as_bytes(), &[0x7f, 0xff, 4, 0]].concat();
    let option =
        [&1u32.to_le_bytes()[..], &(path.len() as u16).to_le_bytes(), &utf16("Over HTTP"), &path].concat();
    for (name, data) in
        [(format!("Boot{ENTRY:04X}"), option), ("BootNext".into(), ENTRY.to_le_bytes().to_vec())]
    {
        let variable = variable(&name, &data);
        vars.get_mut(at..at + variable.len()).ok_or_else(odd)?.copy_from_slice(&variable);
        at = (at + variable.len()).next_multiple_of(4);
    }
    Ok(())
}

/// Header (no counter, time or key), name, data.
fn variable(name: &str, data: &[u8]) -> Vec<u8> {
    let name = utf16(name);
    let (name_length, data_length) = (name.len() as u32, data.len() as u32);
    [
        &START.to_le_bytes()[..],
        &[ADDED, 0],
        &ATTRIBUTES.to_le_bytes(),
        &[0; 8 + 16 + 4],
        &name_length.to_le_bytes(),
        &data_length.to_le_bytes(),
        &GLOBAL,
        &name,
        data,
    ]
    .concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_and_the_next_choice_follow_what_is_there() {
        let mut vars = vec![0xff; 4096];
        vars[40..44].copy_from_slice(b"_FVH");
        vars[48..50].copy_from_slice(&72u16.to_le_bytes());
        let there = variable("Lang", b"eng");
        vars[100..100 + there.len()].copy_from_slice(&there);
        boot_url_next(&mut vars, "http://10.0.2.2/a.efi").unwrap();
        let first = (100 + there.len()).next_multiple_of(4);
        assert_eq!(vars[first..first + 3], [0xaa, 0x55, ADDED]);
        assert_eq!(vars[first + 60..first + 60 + 18], utf16("Boot0099"));
        let text = String::from_utf8_lossy(&vars);
        assert!(text.contains("http://10.0.2.2/a.efi\u{7f}"), "the path ends after the URL");
        assert!(boot_url_next(&mut [0; 4096], "http://x/").is_err());
    }
}
