//! The firmware's boot order: the installed disk first.
//!
//! Why: firmware that still prefers the medium would start the installer again, and one that keeps an older entry
//! first would start something else. Route in: the ESP and the loader in it. Route out: one entry called
//! [`TITLE`], first in the order; an entry of an earlier installation is replaced.

use crate::plan::Partition;
use sheaf_host::efi::{EfiError, Variables};

/// What the firmware's menu shows.
pub const TITLE: &str = "Sheaf";
/// Of a load option: it is tried.
const ACTIVE: u32 = 1;

/// Puts `loader` (`/EFI/…` on the partition `esp`) first.
pub(super) fn prefer(
    variables: &dyn Variables,
    esp: &Partition,
    sector_size: u64,
    loader: &str,
) -> Result<(), EfiError> {
    let mut used = Vec::new();
    let mut ours = None;
    for name in variables.names()? {
        let digits = name.strip_prefix("Boot").filter(|digits| digits.len() == 4);
        let Some(number) = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) else { continue };
        used.push(number);
        if variables.read(&name)?.is_some_and(|option| title(&option) == TITLE) {
            ours = ours.max(Some(number));
        }
    }
    let number = ours.or_else(|| (0..u16::MAX).find(|number| !used.contains(number))).unwrap_or(u16::MAX);
    variables.write(&format!("Boot{number:04X}"), &load_option(esp, sector_size, loader))?;
    let order = variables.read("BootOrder")?.unwrap_or_default();
    let others = order.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let order: Vec<u8> = [number]
        .into_iter()
        .chain(others.filter(|other| *other != number))
        .flat_map(u16::to_le_bytes)
        .collect();
    variables.write("BootOrder", &order)
}

/// The title in a load option.
fn title(option: &[u8]) -> String {
    let units = option.get(6..).unwrap_or_default().chunks_exact(2);
    let units: Vec<_> =
        units.map(|pair| u16::from_le_bytes([pair[0], pair[1]])).take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// EFI_LOAD_OPTION: attributes, length of the device path, title, device path.
fn load_option(esp: &Partition, sector_size: u64, loader: &str) -> Vec<u8> {
    let drive = [
        &u32::from(esp.number).to_le_bytes()[..],
        &(esp.offset / sector_size).to_le_bytes(),
        &(esp.size / sector_size).to_le_bytes(),
        &esp.uuid.to_bytes_le(),
        &[2, 2], // a GPT's partition, known by its UUID
    ]
    .concat();
    let file = utf16(&loader.replace('/', "\\"));
    let path = [node(4, 1, &drive), node(4, 4, &file), node(0x7f, 0xff, &[])].concat();
    let length = (path.len() as u16).to_le_bytes();
    [&ACTIVE.to_le_bytes()[..], &length, &utf16(TITLE), &path].concat()
}

/// One node of a device path.
fn node(kind: u8, subkind: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16 + 4).to_le_bytes();
    [&[kind, subkind][..], &length, data].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Layout, MIN_DISK, Role};
    use sheaf_host::fakes::FakeVariables;
    use uuid::Uuid;

    const LOADER: &str = "/EFI/systemd/systemd-bootx64.efi";

    fn esp() -> Partition {
        let id = Uuid::from_u128(0x6b1f7a3e_93c2_4d55_8f10_0123456789ff);
        Layout::of(MIN_DISK, 512, id).unwrap().partition(Role::Esp).clone()
    }

    /// As efibootmgr writes it for the same partition and file, with the title Sheaf.
    #[test]
    fn the_entry_names_partition_and_file_as_the_specification_says() {
        let option = load_option(&esp(), 512, LOADER);
        let path = 4 + 38 + 4 + 2 * 33 + 4;
        assert_eq!(option[..6], [1, 0, 0, 0, path as u8, 0]);
        assert_eq!(title(&option), "Sheaf");
        let drive = &option[18..60];
        assert_eq!(drive[..4], [4, 1, 42, 0]);
        assert_eq!(drive[4..8], [2, 0, 0, 0]);
        assert_eq!(drive[8..16], 4096u64.to_le_bytes());
        assert_eq!(drive[16..24], (2u64 << 30 >> 9).to_le_bytes());
        assert_eq!(drive[24..28], [0x3e, 0x7a, 0x1f, 0x6b], "the first part of a GUID is little-endian");
        assert_eq!(drive[39..42], [0x02, 2, 2], "the UUID ends in the partition's number");
        assert_eq!(option[option.len() - 4..], [0x7f, 0xff, 4, 0]);
        assert_eq!(option.len(), 18 + path);
    }

    #[test]
    fn the_entry_goes_first_and_the_others_stay() {
        let variables = FakeVariables::default()
            .with("Boot0000", &load_option(&esp(), 512, LOADER).map_title("Disc"))
            .with("BootOrder", &[0, 0, 7, 0]);
        prefer(&variables, &esp(), 512, LOADER).unwrap();
        assert_eq!(variables.read("BootOrder").unwrap().unwrap(), [1, 0, 0, 0, 7, 0]);
        assert_eq!(title(&variables.read("Boot0001").unwrap().unwrap()), "Sheaf");
    }

    #[test]
    fn an_entry_of_an_earlier_installation_is_replaced() {
        let variables = FakeVariables::default()
            .with("Boot0000", &load_option(&esp(), 512, "/old.efi").map_title("Disc"))
            .with("Boot001A", &load_option(&esp(), 512, "/old.efi"))
            .with("BootOrder", &[0, 0, 0x1a, 0]);
        prefer(&variables, &esp(), 512, LOADER).unwrap();
        assert_eq!(variables.read("BootOrder").unwrap().unwrap(), [0x1a, 0, 0, 0]);
        assert_eq!(variables.read("Boot001A").unwrap().unwrap(), load_option(&esp(), 512, LOADER));
        assert_eq!(variables.names().unwrap().len(), 3);
    }

    trait MapTitle {
        fn map_title(self, title: &str) -> Vec<u8>;
    }

    impl MapTitle for Vec<u8> {
        fn map_title(self, title: &str) -> Vec<u8> {
            [&self[..6], &utf16(title), &self[18..]].concat()
        }
    }
}
