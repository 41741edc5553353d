//! Pages, and the limits a proxy inherits.

use super::Finding;
use super::TUNE;
use super::tree;
use super::tree::Tree;

/// The largest scenario's connections on both sides of a proxy, and the driver's own, with room to spare.
const OPEN_FILES_MIN: u64 = 1 << 16;
/// What `OPERATING.md` asks for: rings and registered buffers.
const LOCKED_BYTES_MIN: u64 = 8 << 20;

pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    vec![huge_pages(tree), limit(tree, "open files", OPEN_FILES_MIN), limit(tree, "locked memory", LOCKED_BYTES_MIN)]
}

fn huge_pages(tree: &Tree) -> Finding {
    let text = tree.text("sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    match tree::chosen(&text) {
        Some(mode) => {
            Finding::when(mode != "always", "huge pages", mode, format!("{TUNE} apply (huge-pages): a page fault may wait for compaction"))
        }
        None => Finding::unknown("huge pages", "a kernel without them: compare with hosts alike"),
    }
}

/// One row of our own limits, which the proxies inherit; the hard one counts, for the bench raises the soft one.
fn limit(tree: &Tree, name: &str, least: u64) -> Finding {
    let text = tree.text("proc/self/limits").unwrap_or_default();
    let hard = text.lines().find_map(|line| {
        let rest = line.strip_prefix("Max ")?.strip_prefix(name)?;
        rest.split_ascii_whitespace().nth(1)
    });
    let Some(hard) = hard else { return Finding::unknown(name, "`ulimit -aH` tells") };
    let cure = format!("{least} at least: LimitNOFILE and LimitMEMLOCK of the unit, /etc/security/limits.conf of a login");
    Finding::when(hard == "unlimited" || hard.parse::<u64>().is_ok_and(|hard| hard >= least), name, hard, cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;
    use crate::preflight::tree::tests::host;

    /// Huge pages for everyone matter; on request or never, they do not.
    #[test]
    fn huge_pages_for_everyone_matter() {
        let table = [
            ("[always] madvise never", Verdict::Matters),
            ("always [madvise] never", Verdict::Good),
            ("always madvise [never]", Verdict::Good),
            ("", Verdict::Unknown),
        ];
        for (place, (text, verdict)) in table.into_iter().enumerate() {
            let host = host(&format!("pages-{place}"), &[("sys/kernel/mm/transparent_hugepage/enabled", text)]);
            assert_eq!(huge_pages(&host.tree()).verdict, verdict, "{text}");
        }
    }

    /// The hard limit counts, and a limit that is missing is not one that is met.
    #[test]
    fn the_hard_limit_counts() {
        let table = [
            ("Max open files            1024                 1048576              files     \n", Verdict::Good, "1048576"),
            ("Max open files            20000                20000                files     \n", Verdict::Matters, "20000"),
            ("Max open files            unlimited            unlimited            files     \n", Verdict::Good, "unlimited"),
            ("Max open files            1024\n", Verdict::Unknown, "not told"),
            ("Max processes             96365                96365                processes \n", Verdict::Unknown, "not told"),
        ];
        for (place, (text, verdict, value)) in table.into_iter().enumerate() {
            let host = host(&format!("limit-{place}"), &[("proc/self/limits", text)]);
            let finding = limit(&host.tree(), "open files", OPEN_FILES_MIN);
            assert_eq!((finding.verdict, finding.value.as_str()), (verdict, value), "{text}");
        }
    }
}
