//! `sheaf-agent claim new`: a new code, on a control-plane node.
//!
//! Why here: tries are used up, or who administered the cluster is gone. It works beside administrators, too: who is root on a
//! control-plane node administers the cluster anyway. Route in: a request. Route out: a claim, and its code in words.

use super::controller::seconds;
use super::{apply, report};
use crate::cluster::create::console::serving_certificate;
use crate::cluster::create::pki::Pki;
use crate::cluster::{kubeconfig, token};
use crate::paths::Paths;
use anyhow::Context as _;
use sheaf_config::claim::{LIFETIME, TRIES};
use sheaf_config::node::NodeConfig;

/// Makes a claim in place of one that there is, on the node with these files.
pub async fn new(paths: &Paths, config: &NodeConfig) -> anyhow::Result<String> {
    let client = token::administrator(paths).await?;
    let pki = Pki { dir: paths.kubernetes.clone() };
    let server = kubeconfig::certificate_and_server(&pki.kubeconfig("super-admin"))
        .map(|(_, server)| server)
        .context("super-admin.conf cannot be read")?;
    let now = seconds();
    apply::apply(&client, paths, &config.system.hostname, super::plan::Action::Bind, now).await?;
    let code = apply::open(&client, paths, &config.system.hostname, true, now).await?;
    let file = serving_certificate(&pki);
    let pem =
        std::fs::read_to_string(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let fingerprint = report::fingerprint(&pem).context("the console's certificate is damaged")?;
    Ok(words(&code, &report::url_of(&server), &fingerprint, now))
}

fn words(code: &str, url: &str, fingerprint: &str, now: u64) -> String {
    format!(
        "{url}\nSHA-256 of the certificate: {fingerprint}\ncode: {code}\n\nOpen the address in a browser, compare the certificate, \
         and enter the code. It is valid until {}, makes one administrator, and may be tried {TRIES} times. For a kubeconfig: \
         sheaf admin claim --server {url} --code {code} NAME\n",
        report::at(now.saturating_add(LIFETIME))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_all_that_is_typed_and_compared() {
        assert_eq!(
            words("01AB-23CD", "https://192.0.2.10/", "AB:CD", 1_800_000_000),
            "https://192.0.2.10/\nSHA-256 of the certificate: AB:CD\ncode: 01AB-23CD\n\nOpen the address in a browser, compare \
             the certificate, and enter the code. It is valid until 2027-01-16T08:00:00Z, makes one administrator, and may be \
             tried 10 times. For a kubeconfig: sheaf admin claim --server https://192.0.2.10/ --code 01AB-23CD NAME\n"
        );
    }
}
