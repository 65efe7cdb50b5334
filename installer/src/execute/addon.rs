//! Kernel arguments of node.toml as an addon of systemd-stub: a PE file that holds nothing but a command line.
//!
//! Why an addon: the UKI stays as it was built, so its signature, its measurement (PCR 11) and its hash in the manifest
//! hold, also for the UKI of every later release; the arguments are measured apart (PCR 12). Firmware under Secure Boot
//! takes only signed ones, so the plan refuses arguments there. Why made here: ukify is no program for an initrd, and an
//! addon's code is never run. Route in: the arguments. Route out: the file for `/loader/addons` of the boot partition.

/// Where systemd-stub looks for addons of every UKI on the same partition.
pub(super) const PATH: &str = "/loader/addons/arguments.addon.efi";

/// Alignment of sections in memory and in the file, in bytes: a page, a sector.
const PAGE: usize = 0x1000;
const SECTOR: usize = 0x200;
/// Place of the PE header: right behind the DOS header.
const PE: usize = 0x40;
/// Length of the optional header in bytes: PE32+ with 16 data directories.
const OPTIONAL: usize = 112 + 16 * 8;

/// `xor eax, eax; ret`: anyone who starts it is told that everything works.
const CODE: [u8; 3] = [0x31, 0xc0, 0xc3];
/// Section flags: code that is read and executed; data that is read.
const TEXT: u32 = 0x6000_0020;
const DATA: u32 = 0x4000_0040;

/// The addon for `arguments`, as one line.
pub(super) fn image(arguments: &str) -> Vec<u8> {
    let sections: [(&[u8; 8], &[u8], u32); 2] =
        [(b".text\0\0\0", &CODE, TEXT), (b".cmdline", arguments.as_bytes(), DATA)];
    let mut header = vec![0u8; PE];
    header[..2].copy_from_slice(b"MZ");
    header[0x3c] = PE as u8;
    header.extend(b"PE\0\0");
    let half = |out: &mut Vec<u8>, value: u16| out.extend(value.to_le_bytes());
    let word = |out: &mut Vec<u8>, value: usize| out.extend((value as u32).to_le_bytes());
    half(&mut header, 0x8664); // x86-64
    half(&mut header, sections.len() as u16);
    word(&mut header, 0); // no time: the same bytes for the same arguments
    word(&mut header, 0);
    word(&mut header, 0);
    half(&mut header, OPTIONAL as u16);
    half(&mut header, 0x022e); // executable, no debug information, large addresses; may be loaded anywhere

    let places = places(&sections);
    let end = places.last().map_or(PAGE, |place| place.memory + place.length.next_multiple_of(PAGE));
    let optional = header.len();
    half(&mut header, 0x020b); // PE32+
    half(&mut header, 0);
    word(&mut header, SECTOR); // length of code
    word(&mut header, places[1].length.next_multiple_of(SECTOR)); // length of data
    word(&mut header, 0);
    word(&mut header, places[0].memory); // where it starts
    word(&mut header, places[0].memory);
    header.extend([0; 8]); // loaded anywhere
    word(&mut header, PAGE);
    word(&mut header, SECTOR);
    header.extend([0; 16]); // versions of systems that it is not for
    word(&mut header, end);
    word(&mut header, places[0].file);
    word(&mut header, 0); // no checksum: firmware looks at none
    half(&mut header, 10); // an EFI application
    half(&mut header, 0x0100); // its data is never executed
    header.extend([0; 32]);
    word(&mut header, 0);
    word(&mut header, 16);
    header.resize(optional + OPTIONAL, 0);

    for ((name, _, flags), place) in sections.iter().zip(&places) {
        header.extend(*name);
        word(&mut header, place.length);
        word(&mut header, place.memory);
        word(&mut header, place.length.next_multiple_of(SECTOR));
        word(&mut header, place.file);
        header.extend([0; 12]);
        word(&mut header, *flags as usize);
    }
    for ((_, bytes, _), place) in sections.iter().zip(&places) {
        header.resize(place.file, 0);
        header.extend(*bytes);
    }
    header.resize(header.len().next_multiple_of(SECTOR), 0);
    header
}

/// Where a section lies.
struct Place {
    length: usize,
    memory: usize,
    file: usize,
}

fn places(sections: &[(&[u8; 8], &[u8], u32)]) -> Vec<Place> {
    let headers = PE + 24 + OPTIONAL + sections.len() * 40;
    let (mut memory, mut file) = (PAGE, headers.next_multiple_of(SECTOR));
    let mut places = Vec::new();
    for (_, bytes, _) in sections {
        places.push(Place { length: bytes.len(), memory, file });
        memory += bytes.len().next_multiple_of(PAGE);
        file += bytes.len().next_multiple_of(SECTOR);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_arguments_where_its_section_table_says() {
        let image = image("intel_iommu=on hugepages=64");
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!((&image[..2], word(0x3c), &image[PE..PE + 4]), (&b"MZ"[..], PE, &b"PE\0\0"[..]));
        let table = PE + 24 + OPTIONAL;
        assert_eq!(&image[table + 40..table + 48], b".cmdline");
        let (length, place) = (word(table + 40 + 8), word(table + 40 + 20));
        assert_eq!(&image[place..place + length], b"intel_iommu=on hugepages=64");
        let (code, start) = (word(table + 20), word(PE + 24 + 16));
        assert_eq!((&image[code..code + 3], start), (&CODE[..], word(table + 12)));
        assert_eq!(image.len() % SECTOR, 0);
    }
}
