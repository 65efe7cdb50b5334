//! QEMU without a data race that breaks emulated nodes.
//!
//! Why: QEMU's `cpu_clear_ignne()` clears a bit of processor 0's `hflags2` without a lock, on whichever processor the
//! guest loads its FPU state. `hflags2` also says whether processor 0 is inside a nested guest, so with two processors a
//! node that runs VMs now and then loses that state: "corrupted stack end detected" or "Triple fault". The bit matters to
//! MS-DOS alone, so the one instruction that clears it is replaced by a NOP, in a copy. Nothing is patched by guess:
//! the function must be there, with exactly one such instruction in it.
//! Route in: QEMU's binary of the tools chroot. Route out: the copy, in the cache, made once per binary.

use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, ProgramHeader as _, Sym as _};
use object::{Endianness, elf};
use sha2::{Digest as _, Sha256};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The function with the race: `target/i386/tcg/system/fpu_helper.c`.
const FUNCTION: &str = "cpu_clear_ignne";
/// `andl $~HF2_IGNNE_MASK, disp32(%reg)` is `81 a0..a7 disp32 imm32`: ten bytes, and these are the last four.
const MASK: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];
/// The NOP of ten bytes that Intel's manual recommends.
const NOP: [u8; 10] = [0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00];

/// Why no copy could be made.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// A file could not be read or written.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It is no ELF file of this machine's kind.
    #[error("{}: not a 64-bit ELF program", .path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: object::Error,
    },
    /// Debian's QEMU is no longer the one that this was written for.
    #[error(
        "{}: {what}. QEMU has changed: see whether {FUNCTION} still writes hflags2 of processor 0 without a lock; if not, remove tests/machine/src/emulator.rs",
        .path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is not as expected.
        what: String,
    },
}

/// The copy of `qemu` without the race, under `cache`; made when it is not there.
pub fn without_race(qemu: &Path, cache: &Path) -> Result<PathBuf, EmulatorError> {
    let failed = |path: &Path, what| {
        let path = path.to_owned();
        move |source| EmulatorError::File { path, what, source }
    };
    let mut program = std::fs::read(qemu).map_err(failed(qemu, "be read"))?;
    let digest = Sha256::digest(&program);
    let key: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let copy = cache.join("emulator").join(key).join("qemu-system-x86_64");
    if copy.exists() {
        return Ok(copy);
    }
    let at = instruction(&program).map_err(|problem| match problem {
        Problem::NotElf(source) => EmulatorError::NotElf { path: qemu.to_owned(), source },
        Problem::Changed(what) => EmulatorError::Changed { path: qemu.to_owned(), what },
    })?;
    program[at..at + NOP.len()].copy_from_slice(&NOP);
    let folder = copy.parent().unwrap_or(cache);
    std::fs::create_dir_all(folder).map_err(failed(folder, "be made"))?;
    // Two tests may make it at once: each under a name of its own, and the last rename wins.
    let new = tempfile::NamedTempFile::new_in(folder).map_err(failed(folder, "hold a new file"))?;
    std::fs::write(new.path(), &program).map_err(failed(new.path(), "be written"))?;
    new.persist(&copy).map_err(|error| failed(&copy, "be put in place")(error.error))?;
    Ok(copy)
}

/// What is wrong with a program.
#[derive(Debug)]
enum Problem {
    NotElf(object::Error),
    Changed(String),
}

/// Where in the file `program` the racing instruction begins.
fn instruction(program: &[u8]) -> Result<usize, Problem> {
    let body = function(program)?;
    let code = program
        .get(body.clone())
        .ok_or_else(|| Problem::Changed("the function is not in the file".into()))?;
    let found: Vec<usize> = code
        .windows(NOP.len())
        .enumerate()
        .filter(|(_, bytes)| bytes[0] == 0x81 && bytes[1] & 0xf8 == 0xa0 && bytes[6..] == MASK)
        .map(|(at, _)| body.start + at)
        .collect();
    match found[..] {
        [at] => Ok(at),
        _ => Err(Problem::Changed(format!(
            "{} instructions in {FUNCTION} clear the bit, expected one",
            found.len()
        ))),
    }
}

/// The bytes of the file that are the function, by its symbol and the program headers.
fn function(program: &[u8]) -> Result<Range<usize>, Problem> {
    let header = FileHeader64::<Endianness>::parse(program).map_err(Problem::NotElf)?;
    let endian = header.endian().map_err(Problem::NotElf)?;
    let sections = header.sections(endian, program).map_err(Problem::NotElf)?;
    let symbols = sections.symbols(endian, program, elf::SHT_DYNSYM).map_err(Problem::NotElf)?;
    let named = |symbol: &&elf::Sym64<Endianness>| {
        symbol.name(endian, symbols.strings()).is_ok_and(|name| name == FUNCTION.as_bytes())
    };
    let symbol = symbols
        .iter()
        .find(named)
        .ok_or_else(|| Problem::Changed(format!("it exports no symbol {FUNCTION}")))?;
    let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
    let segments = header.program_headers(endian, program).map_err(Problem::NotElf)?;
    let segment = segments.iter().find(|segment| {
        let begin = segment.p_vaddr(endian);
        segment.p_type(endian) == elf::PT_LOAD
            && address.checked_sub(begin).is_some_and(|offset| offset < segment.p_filesz(endian))
    });
    let segment =
        segment.ok_or_else(|| Problem::Changed(format!("{FUNCTION} is in no segment of the file")))?;
    let start = address - segment.p_vaddr(endian) + segment.p_offset(endian);
    let range = usize::try_from(start).ok().zip(usize::try_from(start.saturating_add(size)).ok());
    range.map(|(start, end)| start..end).ok_or_else(|| Problem::Changed("the symbol's size is absurd".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEARS: [u8; 10] = [0x81, 0xa0, 0x74, 0x2c, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff];
    /// Where the made-up program's code lies: address 0x400000 + 0x1000, offset 0x200.
    const CODE: usize = 0x200;

    /// An ELF program whose dynamic symbol `name` is `code`.
    fn program(name: &str, code: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let (long, half) = (u64::to_le_bytes, u16::to_le_bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &half(3)); // ET_DYN
        put(18, &half(62)); // EM_X86_64
        put(20, &1u32.to_le_bytes());
        put(32, &long(64)); // program headers
        put(40, &long(0x600)); // section headers
        for (at, value) in [(52, 64), (54, 56), (56, 1), (58, 64), (60, 3), (62, 2)] {
            put(at, &half(value));
        }
        put(64, &1u32.to_le_bytes()); // PT_LOAD
        for (at, value) in [(72, CODE as u64), (80, 0x40_1000), (96, 0x100), (104, 0x100)] {
            put(at, &long(value));
        }
        put(CODE, code);
        // Names, then the symbols: the null symbol and ours.
        put(0x401, name.as_bytes());
        put(0x518, &1u32.to_le_bytes());
        put(0x51c, &[0x12, 0]); // global function
        put(0x51e, &half(1));
        put(0x520, &long(0x40_1000));
        put(0x528, &long(code.len() as u64));
        // Section headers: null, .dynsym (11), its strings (3).
        for (index, kind, offset, size, link, entry) in
            [(1usize, 11u32, 0x500u64, 48u64, 2u32, 24u64), (2, 3, 0x400, 0x100, 0, 0)]
        {
            let at = 0x600 + index * 64;
            put(at + 4, &kind.to_le_bytes());
            put(at + 24, &long(offset));
            put(at + 32, &long(size));
            put(at + 40, &link.to_le_bytes());
            put(at + 56, &long(entry));
        }
        bytes
    }

    fn patched(name: &str, code: &[u8]) -> Result<Vec<u8>, EmulatorError> {
        let folder = tempfile::tempdir().unwrap();
        let qemu = folder.path().join("qemu");
        std::fs::write(&qemu, program(name, code)).unwrap();
        let copy = without_race(&qemu, folder.path())?;
        assert_eq!(without_race(&qemu, folder.path()).unwrap(), copy, "a second call makes another");
        Ok(std::fs::read(copy).unwrap())
    }

    #[test]
    fn the_one_instruction_becomes_a_nop_and_no_other_byte_changes() {
        let code = [&[0x48, 0x89, 0xe5][..], &CLEARS, &[0xc3]].concat();
        let mut expected = program(FUNCTION, &code);
        expected[CODE + 3..CODE + 13].copy_from_slice(&NOP);
        assert_eq!(patched(FUNCTION, &code).unwrap(), expected);
    }

    #[test]
    fn a_qemu_that_is_not_the_known_one_is_refused_with_what_to_look_at() {
        for (name, code, what) in [
            (FUNCTION, vec![0xc3], "0 instructions in cpu_clear_ignne"),
            (FUNCTION, [CLEARS, CLEARS].concat(), "2 instructions in cpu_clear_ignne"),
            ("something_else", CLEARS.to_vec(), "exports no symbol cpu_clear_ignne"),
        ] {
            let error = patched(name, &code).unwrap_err();
            assert!(
                matches!(&error, EmulatorError::Changed { what: found, .. } if found.contains(what)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let qemu = folder.path().join("qemu");
        std::fs::write(&qemu, "#!/bin/sh\n").unwrap();
        assert!(matches!(without_race(&qemu, folder.path()), Err(EmulatorError::NotElf { .. })));
    }
}
