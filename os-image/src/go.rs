//! What a Go program says of itself: the modules it was linked from.
//!
//! Why from the binary: `go.sum` has what a build may need, this has what is in it, also in a binary that was built
//! elsewhere. The format is Go's `debug/buildinfo`: a header on a multiple of 16 bytes, then two strings with their lengths.
//! Route in: the bytes of a program. Route out: [`BuildInfo`].

/// Begins the header.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Bytes of the header, and what it is aligned to.
const HEADER: usize = 32;
const ALIGNED: usize = 16;
/// Flag of the header: strings follow it (Go 1.18 and newer).
const INLINE: u8 = 2;
/// Bytes of the marks around the list of modules.
const MARK: usize = 16;

/// What a program was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// `go1.26.8`
    pub go: String,
    /// What was linked, in the order of the program.
    pub modules: Vec<Module>,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    /// `k8s.io/api`
    pub path: String,
    /// `v0.37.2`
    pub version: String,
    /// As in `go.sum`, `h1:…`.
    pub sum: String,
}

/// Reads the build information of `program`; none: it is not a Go program, or one older than Go 1.18.
pub fn build_info(program: &[u8]) -> Option<BuildInfo> {
    program
        .chunks(ALIGNED)
        .enumerate()
        .filter(|(_, chunk)| chunk.starts_with(MAGIC))
        .find_map(|(index, _)| header(&program[index * ALIGNED..]))
}

fn header(bytes: &[u8]) -> Option<BuildInfo> {
    if bytes.get(MAGIC.len() + 1)? & INLINE == 0 {
        return None;
    }
    let (go, rest) = string(bytes.get(HEADER..)?)?;
    let (list, _) = string(rest)?;
    let list = list.get(MARK..list.len().checked_sub(MARK)?)?;
    let go = String::from_utf8(go.to_vec()).ok()?;
    Some(BuildInfo { go, modules: modules(std::str::from_utf8(list).ok()?) })
}

/// A string behind its length, which is written in groups of seven bits, lowest first.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// `dep PATH VERSION SUM`, each replaced by the `=> PATH VERSION SUM` that may follow it.
fn modules(list: &str) -> Vec<Module> {
    let mut modules = Vec::new();
    for line in list.lines() {
        let words: Vec<_> = line.split('\t').collect();
        let [kind, path, version, ..] = words[..] else { continue };
        let sum = words.get(3).copied().unwrap_or_default();
        let module = Module { path: path.into(), version: version.into(), sum: sum.into() };
        match (kind, modules.last_mut()) {
            ("dep", _) => modules.push(module),
            ("=>", Some(last)) => *last = module,
            _ => {}
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(list: &str) -> Vec<u8> {
        let mut bytes = vec![0; 160];
        // The header's mark is also a constant of programs that read it: there it stands anywhere.
        bytes[3..3 + MAGIC.len()].copy_from_slice(MAGIC);
        let mut header = [0; HEADER];
        header[..MAGIC.len()].copy_from_slice(MAGIC);
        header[15] = INLINE;
        bytes.extend(header);
        for text in ["go1.26.8", &format!("{0}{list}{0}", "x".repeat(MARK))] {
            bytes.extend([(text.len() & 0x7f) as u8 | 0x80, (text.len() >> 7) as u8]);
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn modules_are_those_that_were_linked_and_a_replacement_is_the_module() {
        let list = "path\tsheaf.dev/kube\nmod\tsheaf.dev/kube\t(devel)\t\ndep\tgithub.com/a/b\tv1.2.3\th1:aa=\n\
                    dep\tk8s.io/api\tv0.0.0\n=>\tk8s.io/api\tv0.37.2\th1:bb=\nbuild\t-trimpath=true\n";
        let info = build_info(&program(list)).unwrap();
        assert_eq!(info.go, "go1.26.8");
        let found: Vec<_> =
            info.modules.iter().map(|module| format!("{} {}", module.path, module.version)).collect();
        assert_eq!(found, ["github.com/a/b v1.2.3", "k8s.io/api v0.37.2"]);
        assert_eq!(info.modules[1].sum, "h1:bb=");
    }

    #[test]
    fn what_is_cut_off_or_no_go_program_has_no_modules() {
        let whole = program("dep\ta\tv1\th1:a=\n");
        assert_eq!(build_info(&whole[..whole.len() - 4]), None);
        assert_eq!(build_info(b"\x7fELF"), None);
    }
}
