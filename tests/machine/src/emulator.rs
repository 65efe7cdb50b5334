//! QEMU without two faults that break emulated nodes.
//!
//! Why: QEMU's `cpu_clear_ignne()` clears a bit of processor 0's `hflags2` without a lock, on whichever processor the
//! guest loads its FPU state. `hflags2` also says whether processor 0 is inside a nested guest, so with two processors a
//! node that runs VMs now and then loses that state: "corrupted stack end detected" or "Triple fault". The bit matters to
//! MS-DOS alone, so the one instruction that clears it is replaced by a NOP, in a copy. And `helper_write_crN()` raises an
//! interrupt without the lock that `tcg_handle_interrupt()` asserts, when a nested guest writes CR8 while an interrupt waits
//! for it, as firmware does: "assertion failed: (bql_locked())" and QEMU is gone. In the copy the jump to the assertion is a
//! LOCK prefix of the instruction after it, which sets the bit, so that no other is lost.
//! Nothing is patched by guess: each function must be there, with exactly one such place in it.
//! Route in: QEMU's binary of the tools chroot. Route out: the copy, in the cache, made once per binary.

use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, ProgramHeader as _, Sym as _};
use object::{Endianness, elf};
use sha2::{Digest as _, Sha256};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A place in QEMU's code that is replaced.
struct Fault {
    /// The function that has it.
    function: &'static str,
    /// What is done there, for an error: "N instructions in FUNCTION …".
    does: &'static str,
    /// Whether these bytes are the place; as many as those that replace them.
    is_here: fn(&[u8]) -> bool,
    /// What replaces it.
    by: &'static [u8],
}

const FAULTS: [Fault; 2] = [
    // target/i386/tcg/system/fpu_helper.c: `andl $~HF2_IGNNE_MASK, disp32(%reg)` is `81 a0..a7 disp32 imm32`.
    Fault {
        function: "cpu_clear_ignne",
        does: "clear the bit",
        is_here: |bytes| {
            bytes[0] == 0x81 && bytes[1] & 0xf8 == 0xa0 && bytes[6..] == [0x7f, 0xff, 0xff, 0xff]
        },
        // The NOP of ten bytes that Intel's manual recommends.
        by: &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    },
    // accel/tcg/tcg-accel-ops.c: `test %al,%al; je assertion; or %ebp,disp32(%rbx)` becomes `test %al,%al; nop; lock or …`.
    Fault {
        function: "tcg_handle_interrupt",
        does: "set the bit after the assertion",
        is_here: |bytes| bytes[..3] == [0x84, 0xc0, 0x74] && bytes[4..] == [0x09, 0xab],
        by: &[0x84, 0xc0, 0x90, 0xf0, 0x09, 0xab],
    },
];

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
        "{}: {what}. QEMU has changed: see whether it still has the fault (tests/machine/src/emulator.rs); if not, remove its line from FAULTS",
        .path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is not as expected.
        what: String,
    },
}

/// The copy of `qemu` without the faults, under `cache`; made when it is not there.
pub fn without_faults(qemu: &Path, cache: &Path) -> Result<PathBuf, EmulatorError> {
    let failed = |path: &Path, what| {
        let path = path.to_owned();
        move |source| EmulatorError::File { path, what, source }
    };
    let mut program = std::fs::read(qemu).map_err(failed(qemu, "be read"))?;
    let mut hash = Sha256::new_with_prefix(&program);
    FAULTS.iter().for_each(|fault| hash.update(fault.by));
    let key: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let copy = cache.join("emulator").join(key).join("qemu-system-x86_64");
    if copy.exists() {
        return Ok(copy);
    }
    for fault in &FAULTS {
        let at = place(&program, fault).map_err(|problem| match problem {
            Problem::NotElf(source) => EmulatorError::NotElf { path: qemu.to_owned(), source },
            Problem::Changed(what) => EmulatorError::Changed { path: qemu.to_owned(), what },
        })?;
        program[at..at + fault.by.len()].copy_from_slice(fault.by);
    }
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

/// Where in the file `program` the fault is.
fn place(program: &[u8], fault: &Fault) -> Result<usize, Problem> {
    let body = function(program, fault.function)?;
    let code = program
        .get(body.clone())
        .ok_or_else(|| Problem::Changed("the function is not in the file".into()))?;
    let windows = code.windows(fault.by.len()).enumerate();
    let found: Vec<usize> =
        windows.filter(|(_, bytes)| (fault.is_here)(bytes)).map(|(at, _)| body.start + at).collect();
    match found[..] {
        [at] => Ok(at),
        _ => Err(Problem::Changed(format!(
            "{} instructions in {} {}, expected one",
            found.len(),
            fault.function,
            fault.does
        ))),
    }
}

/// The bytes of the file that are the function `name`, by its symbol and the program headers.
fn function(program: &[u8], name: &str) -> Result<Range<usize>, Problem> {
    let header = FileHeader64::<Endianness>::parse(program).map_err(Problem::NotElf)?;
    let endian = header.endian().map_err(Problem::NotElf)?;
    let sections = header.sections(endian, program).map_err(Problem::NotElf)?;
    let symbols = sections.symbols(endian, program, elf::SHT_DYNSYM).map_err(Problem::NotElf)?;
    let named = |symbol: &&elf::Sym64<Endianness>| {
        symbol.name(endian, symbols.strings()).is_ok_and(|found| found == name.as_bytes())
    };
    let symbol =
        symbols.iter().find(named).ok_or_else(|| Problem::Changed(format!("it exports no symbol {name}")))?;
    let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
    let segments = header.program_headers(endian, program).map_err(Problem::NotElf)?;
    let segment = segments.iter().find(|segment| {
        let begin = segment.p_vaddr(endian);
        segment.p_type(endian) == elf::PT_LOAD
            && address.checked_sub(begin).is_some_and(|offset| offset < segment.p_filesz(endian))
    });
    let segment = segment.ok_or_else(|| Problem::Changed(format!("{name} is in no segment of the file")))?;
    let start = address - segment.p_vaddr(endian) + segment.p_offset(endian);
    let range = usize::try_from(start).ok().zip(usize::try_from(start.saturating_add(size)).ok());
    range.map(|(start, end)| start..end).ok_or_else(|| Problem::Changed("the symbol's size is absurd".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEARS: [u8; 10] = [0x81, 0xa0, 0x74, 0x2c, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff];
    /// As Debian's QEMU 10 has it: call, test, je, or.
    const ASSERTS: [u8; 15] =
        [0xe8, 0x3c, 0xfb, 0xf7, 0xff, 0x84, 0xc0, 0x74, 0x45, 0x09, 0xab, 0xd0, 0x00, 0x00, 0x00];
    /// Where the made-up program's code lies: address 0x400000 + 0x1000, offset 0x200; each function has 0x80 bytes.
    const CODE: usize = 0x200;

    /// An ELF program whose dynamic symbols are `functions`, two of them.
    fn program(functions: [(&str, &[u8]); 2]) -> Vec<u8> {
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
        // Names and code, and the symbols after the null symbol.
        for (index, (name, code)) in functions.into_iter().enumerate() {
            put(CODE + index * 0x80, code);
            put(0x401 + index * 0x40, name.as_bytes());
            let symbol = 0x518 + index * 24;
            put(symbol, &u32::to_le_bytes(1 + 0x40 * index as u32));
            put(symbol + 4, &[0x12, 0]); // global function
            put(symbol + 6, &half(1));
            put(symbol + 8, &long(0x40_1000 + 0x80 * index as u64));
            put(symbol + 16, &long(code.len() as u64));
        }
        // Section headers: null, .dynsym (11), its strings (3).
        for (index, kind, offset, size, link, entry) in
            [(1usize, 11u32, 0x500u64, 72u64, 2u32, 24u64), (2, 3, 0x400, 0x100, 0, 0)]
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

    fn patched(functions: [(&str, &[u8]); 2]) -> Result<Vec<u8>, EmulatorError> {
        let folder = tempfile::tempdir().unwrap();
        let qemu = folder.path().join("qemu");
        std::fs::write(&qemu, program(functions)).unwrap();
        let copy = without_faults(&qemu, folder.path())?;
        assert_eq!(without_faults(&qemu, folder.path()).unwrap(), copy, "a second call makes another");
        Ok(std::fs::read(copy).unwrap())
    }

    #[test]
    fn the_two_places_are_replaced_and_no_other_byte_changes() {
        let clears = [&[0x48, 0x89, 0xe5][..], &CLEARS, &[0xc3]].concat();
        let functions = [("cpu_clear_ignne", &clears[..]), ("tcg_handle_interrupt", &ASSERTS[..])];
        let mut expected = program(functions);
        expected[CODE + 3..CODE + 13].copy_from_slice(FAULTS[0].by);
        // nop; lock or %ebp,0xd0(%rbx)
        expected[CODE + 0x87..CODE + 0x89].copy_from_slice(&[0x90, 0xf0]);
        assert_eq!(patched(functions).unwrap(), expected);
    }

    #[test]
    fn a_qemu_that_is_not_the_known_one_is_refused_with_what_to_look_at() {
        let twice = [CLEARS, CLEARS].concat();
        let (clears, asserts) = (("cpu_clear_ignne", &CLEARS[..]), ("tcg_handle_interrupt", &ASSERTS[..]));
        for (functions, what) in [
            ([("cpu_clear_ignne", &[0xc3][..]), asserts], "0 instructions in cpu_clear_ignne clear the bit"),
            ([("cpu_clear_ignne", &twice[..]), asserts], "2 instructions in cpu_clear_ignne clear the bit"),
            ([("something_else", &CLEARS[..]), asserts], "exports no symbol cpu_clear_ignne"),
            ([clears, ("tcg_handle_interrupt", &[0xc3][..])], "0 instructions in tcg_handle_interrupt set"),
        ] {
            let error = patched(functions).unwrap_err();
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
        assert!(matches!(without_faults(&qemu, folder.path()), Err(EmulatorError::NotElf { .. })));
    }
}
