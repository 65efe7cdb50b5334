//! Which disks are removed when space runs short.
//!
//! Why here: as kubelet removes images: those that no VM uses, the one that was used longest ago first, and only when the file
//! system is fuller than it should be. Pure. Route in: disks, free and total bytes. Route out: files.

/// Percent of the file system that should be free: kubelet's `imageGCLowThresholdPercent` of 80.
const FREE: u64 = 20;
/// A disk that was used within so many seconds stays: kubelet's `imageMinimumGCAge`.
const YOUNGEST: i64 = 120;

/// A disk, as far as this decides on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its file.
    pub file: String,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// When it was used last, in seconds since 1970.
    pub used: i64,
    /// A VM has it, or waits for it.
    pub is_needed: bool,
}

/// The files to remove so that `more` bytes can be written and enough stays free.
pub fn plan(mut all: Vec<Candidate>, free: u64, total: u64, more: u64, now: i64) -> Vec<String> {
    let wanted = (total / 100).saturating_mul(FREE).saturating_add(more);
    all.retain(|one| !one.is_needed && one.used.saturating_add(YOUNGEST) <= now);
    all.sort_by_key(|one| one.used);
    let mut free = free;
    let mut files = Vec::new();
    for one in all {
        if free >= wanted {
            break;
        }
        free = free.saturating_add(one.bytes);
        files.push(one.file);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(file: &str, bytes: u64, used: i64, is_needed: bool) -> Candidate {
        Candidate { file: file.into(), bytes, used, is_needed }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_more_than_must() {
        let all = vec![
            one("new", 10, 30, false),
            one("old", 10, 10, false),
            one("used", 10, 0, true),
            one("mid", 10, 20, false),
        ];
        let files = |free, more| plan(all.clone(), free, 100, more, 1000);
        assert_eq!(files(20, 0), [""; 0]);
        assert_eq!(files(19, 0), ["old"]);
        assert_eq!(files(5, 0), ["old", "mid"]);
        assert_eq!(files(20, 25), ["old", "mid", "new"]);
        assert_eq!(plan(all, 0, 100, 0, 130), ["old"], "the others were used a moment ago");
    }

    proptest! {
        #[test]
        fn nothing_that_is_needed_is_ever_removed(
            all in proptest::collection::vec((any::<u64>(), any::<i64>(), any::<bool>()), 0..8),
            free in any::<u64>(), total in any::<u64>(), more in any::<u64>(), now in any::<i64>(),
        ) {
            let all: Vec<_> = all.into_iter().enumerate().map(|(at, (bytes, used, needed))| one(&at.to_string(), bytes, used, needed)).collect();
            let files = plan(all.clone(), free, total, more, now);
            prop_assert!(all.iter().filter(|one| one.is_needed).all(|one| !files.contains(&one.file)));
        }
    }
}
