//! `sheaf-agent certificates`: every certificate of this node, on request.
//!
//! Why not over the agent: ends are also asked for when the agent does not run. Route in: the node's files. Route out: text;
//! an error, and so an exit code that is not 0, when somebody must do something.

use super::judge::judge;
use super::list::{Part, list};
use super::report;
use crate::paths::Paths;
use anyhow::ensure;
use sheaf_config::node::NodeConfig;
use std::fs;
use std::io::ErrorKind;
use std::time::SystemTime;

/// What is printed, and what is wrong: a sentence each.
pub fn certificates(
    paths: &Paths,
    config: &NodeConfig,
    as_json: bool,
    now: SystemTime,
) -> anyhow::Result<(String, Vec<String>)> {
    let part = Part::of(config.cluster.as_ref());
    let readable = match fs::read_dir(paths.lib.join("pki")) {
        Err(error) => error.kind() != ErrorKind::PermissionDenied,
        Ok(_) => true,
    };
    ensure!(readable, "{}: cannot be read; run this as root", paths.lib.join("pki").display());
    let entries = list(paths, part);
    let findings = judge(&entries, part, now);
    let text = match as_json {
        true => serde_json::to_string_pretty(&report::document(&entries, &findings, now))? + "\n",
        false => report::table(&entries, now),
    };
    Ok((text, findings.into_iter().map(|finding| finding.message).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::create::pki::Pki;
    use crate::cluster::create::pki::tests::{YEAR, fake_kubeadm, plane};
    use sheaf_config::load::parse_node_config;

    #[test]
    fn leaves_that_nobody_renewed_are_named_and_in_the_tenth_year_the_cas() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let config = parse_node_config(
            "node.toml",
            "version = 1\nsystem.hostname = \"n1\"\n[cluster]\nmode = \"create\"\n",
        );
        let config = config.unwrap();
        let pki = Pki { dir: paths.kubernetes.clone() };
        let start = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), start).unwrap();
        let (table, problems) = certificates(&paths, &config, false, start).unwrap();
        assert_eq!(problems, [""; 0], "{table}");
        let (_, problems) = certificates(&paths, &config, false, start + YEAR * 99 / 100).unwrap();
        assert_eq!(problems.len(), 10, "leaves and kubeconfigs that nobody renewed: {problems:#?}");
        let end = start + YEAR * 10 - std::time::Duration::from_secs(29 * 24 * 3600);
        let (text, problems) = certificates(&paths, &config, true, end).unwrap();
        let cas: Vec<_> = problems.iter().filter(|problem| problem.starts_with("CA ")).collect();
        assert_eq!(cas.len(), 5, "{problems:#?}");
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["problems"].as_array().unwrap().len(), problems.len());
    }
}
