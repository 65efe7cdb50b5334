//! Files that are not about links: names, time, trust, kernel settings, files of the operator's own.
//!
//! Pure. Each part of `[system]` and `[network]` either becomes a file here or, when this image or this version cannot
//! do it, a note that names the field and the remedy: nothing is passed over in silence. Route in: [`NodeConfig`] and
//! [`Facts`]. Route out: [`File`]s and notes.

use super::plan::{Content, Facts, File, HEADER};
use sheaf_config::node::{NodeConfig, System};
use std::fmt::Display;
use std::net::IpAddr;

/// Trusted authorities, where OpenSSL, GnuTLS and the agent's own fetcher look.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Between the image's authorities and those of node.toml; a second rendering in one boot begins again there.
const OWN_AUTHORITIES: &str = "# From /state/node.toml:\n";

fn words<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// All of them.
pub(super) fn files(config: &NodeConfig, facts: &Facts) -> Vec<File> {
    let (system, network) = (&config.system, &config.network);
    let mut files = vec![
        File::text("/etc/hostname", format!("{}\n", system.hostname)),
        // The node's own name is answered by systemd-resolved with the addresses it really has.
        File::text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n".into()),
        File::text("/run/systemd/resolved.conf.d/50-sheaf.conf", resolved(&network.dns, &network.search)),
        File::text("/run/systemd/timesyncd.conf.d/50-sheaf.conf", timesyncd(&network.ntp)),
    ];
    if !network.ca_certificates.is_empty() {
        files.push(File::text(AUTHORITIES, authorities(&facts.authorities, &network.ca_certificates)));
    }
    if let Some(zone) = system.timezone.as_ref().filter(|_| facts.has_timezone) {
        let content = Content::Link(format!("../usr/share/zoneinfo/{zone}"));
        files.push(File { path: "/etc/localtime".into(), mode: 0o644, content });
    }
    if !system.sysctl.is_empty() {
        // Behind the image's own 50-sheaf.conf; applied by systemd-sysctl, which waits for this.
        let lines: String = system.sysctl.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        files.push(File::text("/etc/sysctl.d/60-node.conf", format!("{HEADER}{lines}")));
    }
    if !system.modules.is_empty() {
        let lines: String = system.modules.iter().map(|name| format!("{name}\n")).collect();
        files.push(File::text("/etc/modules-load.d/60-node.conf", format!("{HEADER}{lines}")));
    }
    if config.vms.nested {
        // In the place of the image's file of this name, which switches it off; sheaf-kvm.service loads KVM with it.
        let options = "options kvm_amd nested=1\noptions kvm_intel nested=1\n";
        files.push(File::text("/etc/modprobe.d/sheaf.conf", format!("{HEADER}{options}")));
    }
    if facts.has_sshd && !system.ssh_keys.is_empty() {
        files.extend(ssh(system));
    }
    files.extend(system.files.iter().map(|file| File {
        path: file.path.clone().into(),
        mode: file.bits(),
        content: Content::Hidden(file.content.clone()),
    }));
    files
}

/// What the config asks for and this node does not do.
pub(super) fn notes(config: &NodeConfig, facts: &Facts) -> Vec<String> {
    let system = &config.system;
    let mut notes = Vec::new();
    if !system.ssh_keys.is_empty() && !facts.has_sshd {
        notes.push(
            "system.ssh-keys: this image has no SSH server, so these keys give no access; \
             administer by cluster.admin-keys, or build an image with openssh-server"
                .to_owned(),
        );
    }
    if system.password_hash.is_some() {
        notes.push(
            "system.password-hash: this image has no console login, so this password gives no access; \
             remove it"
                .to_owned(),
        );
    }
    if let Some(zone) = system.timezone.as_ref().filter(|_| !facts.has_timezone) {
        notes.push(format!("system.timezone: this image does not have {zone}; times are in UTC; remove it"));
    }
    let booted: Vec<&str> = facts.kernel_arguments.split_whitespace().collect();
    let missing: Vec<&str> = system
        .kernel_arguments
        .iter()
        .map(String::as_str)
        .filter(|wanted| !booted.contains(wanted))
        .collect();
    if !missing.is_empty() {
        notes.push(format!(
            "system.kernel-arguments: this boot does not have {}; they are set when the machine is installed: \
             install it again",
            missing.join(" ")
        ));
    }
    notes
}

/// Name servers beside those of DHCP. Neighbours are not asked for names: on a server network that is a way in.
fn resolved(dns: &[IpAddr], search: &[String]) -> String {
    let line = |key: &str, value: String| match value.is_empty() {
        true => String::new(),
        false => format!("{key}={value}\n"),
    };
    let (servers, domains) = (line("DNS", words(dns)), line("Domains", search.join(" ")));
    format!("{HEADER}[Resolve]\n{servers}{domains}FallbackDNS=\nLLMNR=no\nMulticastDNS=no\n")
}

/// Time servers beside those of DHCP.
fn timesyncd(ntp: &[String]) -> String {
    let servers = if ntp.is_empty() { String::new() } else { format!("NTP={}\n", words(ntp)) };
    format!("{HEADER}[Time]\n{servers}")
}

/// The image's authorities and the operator's.
fn authorities(image: &str, own: &[String]) -> String {
    let image = image.split(OWN_AUTHORITIES).next().unwrap_or_default().trim_end();
    let mut text = format!("{image}\n{OWN_AUTHORITIES}");
    for certificate in own {
        text += certificate.trim();
        text.push('\n');
    }
    text
}

/// Keys of root, in a folder of /etc: root's home is read-only.
fn ssh(system: &System) -> Vec<File> {
    let keys: String = system.ssh_keys.iter().map(|key| format!("{}\n", key.trim())).collect();
    let settings = format!(
        "{HEADER}AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
    );
    vec![
        File::text("/etc/ssh/authorized_keys.d/root", keys),
        File::text("/etc/ssh/sshd_config.d/50-sheaf.conf", settings),
    ]
}
