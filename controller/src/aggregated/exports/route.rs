//! From path and headers to what is asked for of an export.
//!
//! Why here: pure; paths come from anyone who reaches the port, so a name that is not one leads nowhere. Route in: a path, a
//! `Range`. Route out: [`Asked`], a [`Span`].

use sheaf_api::vm_export::{GROUP, LATER_VERSION};

/// Where all of them are.
const ROOT: &str = "/api/export.kubevirt.io/";
/// The versions by which links may be written.
const VERSIONS: [&str; 2] = [LATER_VERSION, "v1beta1"];

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Namespace of the export.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What of it.
    pub what: What,
}

/// What of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A volume.
    Volume {
        /// Its name in the export.
        name: String,
        /// Compressed by gzip.
        packed: bool,
    },
    /// Objects that import it elsewhere.
    Manifests,
    /// A Secret with the token, for CDI.
    Header,
}

/// Whether `path` is of an export.
pub fn is_ours(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// What `path` asks for; `None` is 404.
pub fn asked(path: &str) -> Option<Asked> {
    let parts: Vec<&str> = path.strip_prefix("/api/")?.split('/').collect();
    let [GROUP, version, "namespaces", namespace, "virtualmachineexports", name, rest @ ..] =
        parts.as_slice()
    else {
        return None;
    };
    let what = match rest {
        ["volumes", volume, file @ ("disk.img" | "disk.img.gz")] if is_name(volume) => {
            What::Volume { name: (*volume).to_owned(), packed: *file == "disk.img.gz" }
        }
        ["internal" | "external", "manifests", "all"] => What::Manifests,
        ["internal" | "external", "manifests", "secret"] => What::Header,
        _ => return None,
    };
    let is_known = VERSIONS.contains(version) && is_name(namespace) && is_name(name);
    is_known.then(|| Asked { namespace: (*namespace).to_owned(), name: (*name).to_owned(), what })
}

/// Whether a text is a name of an object; nothing that could be more than one part of a path is.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    text.len() <= 253 && text.chars().all(is_part) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Bytes of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All.
    Whole,
    /// These.
    Part {
        /// The first.
        from: u64,
        /// How many.
        bytes: u64,
    },
    /// None of those that there are.
    Beyond,
}

/// What `range` asks for of `size` bytes (RFC 9110 §14.2). What is not understood, and several ranges, are the whole.
pub fn span(range: Option<&str>, size: u64) -> Span {
    let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return Span::Whole;
    };
    let part = |from: u64, end: u64| match from < end {
        true => Span::Part { from, bytes: end - from },
        false => Span::Beyond,
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => part(first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.trim().is_empty() => part(first, size),
        (Err(_), Ok(count)) if first.trim().is_empty() => part(size.saturating_sub(count), size),
        _ => Span::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: &str = "/api/export.kubevirt.io/v1/namespaces/shop/virtualmachineexports/away";

    #[test]
    fn volumes_and_manifests_are_found_by_kubevirts_paths_in_both_versions() {
        let what = |rest: &str| asked(&format!("{AWAY}{rest}")).map(|asked| asked.what);
        let volume = |packed| Some(What::Volume { name: "disk".into(), packed });
        assert_eq!(what("/volumes/disk/disk.img"), volume(false));
        assert_eq!(what("/volumes/disk/disk.img.gz"), volume(true));
        assert_eq!(what("/external/manifests/all"), Some(What::Manifests));
        assert_eq!(what("/internal/manifests/secret"), Some(What::Header));
        assert!(asked(&AWAY.replace("v1", "v1beta1")).is_none());
        assert!(asked(&format!("{}/volumes/disk/disk.img", AWAY.replace("/v1/", "/v1beta1/"))).is_some());
        assert!(is_ours(AWAY) && !is_ours("/apis/subresources.kubevirt.io/v1"));
    }

    #[test]
    fn what_is_no_name_leads_nowhere() {
        for name in ["..", "%2e%2e", "a%2Fb", "", "A", "a?b", ".a", "a b"] {
            let path = format!("/api/export.kubevirt.io/v1/namespaces/shop/virtualmachineexports/{name}");
            assert_eq!(asked(&format!("{path}/volumes/disk/disk.img")), None, "{name}");
            assert_eq!(asked(&format!("{AWAY}/volumes/{name}/disk.img")), None, "{name}");
        }
        assert_eq!(asked(&format!("{AWAY}/volumes/disk/dir/")), None);
        assert_eq!(asked(&AWAY.replace("export.kubevirt.io", "kubevirt.io")), None);
    }

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let part = |from, bytes| Span::Part { from, bytes };
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=10-", part(10, 90)),
            ("bytes=90-200", part(90, 10)),
            ("bytes=-10", part(90, 10)),
            ("bytes=-200", part(0, 100)),
            ("bytes=100-", Span::Beyond),
            ("bytes=-0", Span::Beyond),
            ("bytes=5-4", Span::Whole),
            ("bytes=0-1,3-4", Span::Whole),
            ("bytes=-", Span::Whole),
            ("lines=1-2", Span::Whole),
            ("bytes=18446744073709551615-18446744073709551615", Span::Beyond),
        ] {
            assert_eq!(span(Some(range), 100), expected, "{range}");
        }
        assert_eq!(span(None, 100), Span::Whole);
    }
}
