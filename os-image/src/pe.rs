//! Sections of a UKI: where in the file kernel, initrd and command line lie.
//!
//! Why here: BIOS and PXE start kernel and initrd out of the UKI, by places that the signed manifest vouches for.
//! Format: "PE Format" of Microsoft's Win32 documentation; only headers and the section table are read.
//! Route in: the bytes of a UKI. Route out: [`Sections`].

use sheaf_config::manifest::Section;

/// What lies where in a UKI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    /// `.linux`
    pub linux: Section,
    /// `.initrd`
    pub initrd: Section,
    /// `.cmdline`, as text.
    pub command_line: String,
}

/// Where the offset of the PE header lies, in bytes.
const HEADER_AT: usize = 0x3c;
/// Length of the PE signature and the COFF header in bytes.
const COFF: usize = 24;
/// Length of one entry of the section table in bytes.
const ENTRY: usize = 40;
/// GRUB's block lists count in these, in bytes.
const BLOCK: u64 = 512;

/// Finds the sections of `uki`; or says in words what is wrong with it.
pub fn sections(uki: &[u8]) -> Result<Sections, String> {
    let header = u32_at(uki, HEADER_AT).ok_or("it is too short for a PE file")? as usize;
    if uki.get(header..header + 4) != Some(b"PE\0\0") {
        return Err("it has no PE header".into());
    }
    let count = u16_at(uki, header + 6).ok_or("its header is cut short")?;
    let optional = u16_at(uki, header + 20).ok_or("its header is cut short")?;
    let table = header + COFF + usize::from(optional);
    let find = |name: &str| -> Result<Section, String> {
        let entries =
            (0..usize::from(count)).filter_map(|index| uki.get(table + index * ENTRY..)?.get(..ENTRY));
        let entry = entries
            .into_iter()
            .find(|entry| entry[..8].split(|byte| *byte == 0).next() == Some(name.as_bytes()))
            .ok_or_else(|| format!("it has no section {name}"))?;
        // In memory a section may be shorter than in the file (padding) but never longer, for our kinds of sections.
        let size = u32_at(entry, 8).zip(u32_at(entry, 16)).map(|(memory, file)| memory.min(file));
        let section = Section {
            offset: u32_at(entry, 20).unwrap_or_default().into(),
            size: size.unwrap_or_default().into(),
        };
        let end = (section.offset + section.size).next_multiple_of(BLOCK);
        if section.size == 0 || !section.offset.is_multiple_of(BLOCK) || end > uki.len() as u64 {
            return Err(format!(
                "its section {name} is empty, cut short or not at a multiple of {BLOCK} bytes"
            ));
        }
        Ok(section)
    };
    let (linux, initrd, line) = (find(".linux")?, find(".initrd")?, find(".cmdline")?);
    let line = &uki[line.offset as usize..(line.offset + line.size) as usize];
    let line = std::str::from_utf8(line).map_err(|_| "its command line is not text")?;
    Ok(Sections { linux, initrd, command_line: line.trim_end_matches(['\0', '\n']).to_owned() })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE file with these sections, one after the other from byte 1024.
    fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[HEADER_AT] = 0x80;
        file[0x80..0x84].copy_from_slice(b"PE\0\0");
        file[0x86] = sections.len() as u8;
        file[0x94] = 16;
        for (index, (name, contents)) in sections.iter().enumerate() {
            let entry = 0x80 + COFF + 16 + index * ENTRY;
            let (offset, raw) = (file.len() as u32, contents.len().next_multiple_of(512) as u32);
            file[entry..entry + name.len()].copy_from_slice(name.as_bytes());
            file[entry + 8..entry + 12].copy_from_slice(&(contents.len() as u32).to_le_bytes());
            file[entry + 16..entry + 20].copy_from_slice(&raw.to_le_bytes());
            file[entry + 20..entry + 24].copy_from_slice(&offset.to_le_bytes());
            file.extend_from_slice(contents);
            file.resize((offset + raw) as usize, 0);
        }
        file
    }

    #[test]
    fn each_section_is_found_with_its_true_length() {
        let uki = pe(&[
            (".osrel", b"ID=x"),
            (".cmdline", b"quiet ro\0"),
            (".initrd", &[7; 513]),
            (".linux", b"MZ"),
        ]);
        let expected = Sections {
            linux: Section { offset: 3072, size: 2 },
            initrd: Section { offset: 2048, size: 513 },
            command_line: "quiet ro".into(),
        };
        assert_eq!(sections(&uki).unwrap(), expected);
    }

    #[test]
    fn a_missing_section_is_named_and_a_cut_file_refused() {
        let uki = pe(&[(".cmdline", b"quiet"), (".linux", b"MZ")]);
        assert_eq!(sections(&uki).unwrap_err(), "it has no section .initrd");
        let uki = pe(&[(".cmdline", b"quiet"), (".linux", b"MZ"), (".initrd", b"x")]);
        assert!(sections(&uki[..2048]).unwrap_err().contains(".initrd is empty, cut short"));
        assert_eq!(sections(b"MZ").unwrap_err(), "it is too short for a PE file");
    }
}
