//! Settings of the host: machine facts, time zone, sysctl, modules, kernel arguments, files.
//!
//! Why here: what Sheaf itself sets is listed beside the check that keeps others off it. Route in: a text.
//! Route out: the text.

use super::quoted;
use crate::diagnose::did_you_mean;
use crate::spanned::{Wrong, wrong};

/// Every time zone that has a name (IANA tz database), one a line.
const ZONES: &str = include_str!("timezones.txt");

/// Kernel settings that the image makes, and why: another value would break what stands on them.
const OWN_SYSCTL: [(&str, &str); 12] = [
    ("kernel.panic", "a slot that panics must restart, so that the other one can boot"),
    ("kernel.panic_on_oops", "a slot that fails must restart, so that the other one can boot"),
    ("kernel.hostname", "set system.hostname instead"),
    ("kernel.domainname", "a node has no domain"),
    ("kernel.modules_disabled", "modules are loaded as devices come"),
    ("kernel.sysrq", "the image keeps it off"),
    ("kernel.kptr_restrict", "the image hardens it"),
    ("kernel.dmesg_restrict", "the image hardens it"),
    ("kernel.yama.ptrace_scope", "the image hardens it"),
    ("kernel.unprivileged_bpf_disabled", "the image hardens it"),
    ("kernel.core_pattern", "the image keeps core dumps off the disk"),
    ("net.core.bpf_jit_harden", "the image hardens it"),
];

/// Kernel arguments that boot, verification and updates stand on.
const OWN_ARGUMENTS: [&str; 17] = [
    "root",
    "rootfstype",
    "rootflags",
    "ro",
    "rw",
    "roothash",
    "usrhash",
    "init",
    "rdinit",
    "initrd",
    "panic",
    "oops",
    "lockdown",
    "lsm",
    "module.sig_enforce",
    "BOOT_IMAGE",
    "emergency",
];
/// Beginnings of further ones.
const OWN_ARGUMENT_FAMILIES: [&str; 5] = ["systemd.", "rd.", "sheaf.", "udev.", "dm-mod."];

/// Files under /etc that Sheaf writes or that the system stands on, and where to say the same instead.
const OWN_FILES: [(&str, &str); 20] = [
    ("/etc/hostname", "system.hostname"),
    ("/etc/hosts", "the network's name servers"),
    ("/etc/resolv.conf", "network.dns"),
    ("/etc/localtime", "system.timezone"),
    ("/etc/timezone", "system.timezone"),
    ("/etc/machine-id", "nothing: it is generated once"),
    ("/etc/os-release", "nothing: the image has it"),
    ("/etc/passwd", "system.password-hash"),
    ("/etc/shadow", "system.password-hash"),
    ("/etc/group", "nothing: the image has it"),
    ("/etc/gshadow", "nothing: the image has it"),
    ("/etc/fstab", "storage"),
    ("/etc/crypttab", "storage"),
    ("/etc/ld.so.preload", "nothing: programs are the image's"),
    ("/etc/systemd/network", "network"),
    ("/etc/systemd/resolved.conf", "network.dns"),
    ("/etc/systemd/timesyncd.conf", "network.ntp"),
    ("/etc/libvirt", "nothing: Sheaf runs libvirt"),
    ("/etc/kubernetes", "cluster"),
    ("/etc/sheaf", "the other tables of this file"),
];

/// Processors that a kernel for x86 can have (`NR_CPUS`).
const MOST_CPUS: u32 = 8192;

/// A machine's serial number, as its firmware says it.
pub fn machine_fact(text: &str) -> Result<String, Wrong> {
    /// What boards say whose maker wrote nothing: thousands of machines have the same.
    const EMPTY: [&str; 8] = [
        "to be filled by o.e.m.",
        "default string",
        "system serial number",
        "not specified",
        "not applicable",
        "none",
        "0",
        "0123456789",
    ];
    let text = super::disk_fact(text)?;
    if EMPTY.contains(&text.to_lowercase().as_str()) {
        return wrong(
            format!("\"{text}\" is reported by every machine of that model"),
            "match the machine by its mac",
        );
    }
    Ok(text)
}

/// A machine's UUID.
pub fn uuid(text: &str) -> Result<String, Wrong> {
    let lower = text.to_lowercase();
    let lengths: Vec<_> = lower.split('-').map(str::len).collect();
    if lengths != [8, 4, 4, 4, 12] || !lower.chars().all(|c| c == '-' || c.is_ascii_hexdigit()) {
        return wrong(
            format!("{} is not a UUID", quoted(text)),
            "write what `dmidecode -s system-uuid` prints",
        );
    }
    let mut digits = lower.chars().filter(|c| *c != '-');
    let first = digits.next();
    if digits.all(|digit| Some(digit) == first) {
        return wrong(
            format!("\"{text}\" is reported by every machine of that model"),
            "match the machine by its mac",
        );
    }
    Ok(lower)
}

/// A time zone of the IANA database.
pub fn timezone(text: &str) -> Result<String, Wrong> {
    if ZONES.lines().any(|zone| zone == text) {
        return Ok(text.to_owned());
    }
    let remedy = match did_you_mean(text, ZONES.lines()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "write \"Europe/Berlin\", or leave it out for UTC".into(),
    };
    wrong(format!("{} is not a time zone", quoted(text)), remedy)
}

/// Name of a kernel setting that an operator may make.
pub fn sysctl_key(text: &str) -> Result<(), Wrong> {
    let word =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-*".contains(c));
    if text.contains('/') && !text.contains("..") {
        return wrong(
            format!("{} is a path", quoted(text)),
            format!("write {}", quoted(&text.replace('/', "."))),
        );
    }
    if !text.contains('.') || !text.split('.').all(word) {
        return wrong(format!("{} is not a kernel setting", quoted(text)), "write \"vm.swappiness\"");
    }
    if let Some((_, why)) = OWN_SYSCTL.iter().find(|(key, _)| *key == text) {
        return wrong(format!("\"{text}\" is set by Sheaf: {why}"), "remove it");
    }
    let of_link = text.starts_with("net.ipv6.conf.") || text.starts_with("net.ipv4.conf.");
    if of_link && [".disable_ipv6", ".accept_ra", ".autoconf", ".mtu"].iter().any(|end| text.ends_with(end)) {
        return wrong(
            format!("\"{text}\" is set by Sheaf for each link"),
            "write ipv6 or mtu of the link in [network]",
        );
    }
    Ok(())
}

/// Value of a kernel setting.
pub fn sysctl_value(text: &str) -> Result<String, Wrong> {
    let good = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
    match good {
        true => Ok(text.to_owned()),
        false => {
            wrong(format!("{} is not the value of a kernel setting", quoted(text)), "write one line, \"10\"")
        }
    }
}

/// Name of a kernel module.
pub fn module(text: &str) -> Result<String, Wrong> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if good && text.len() <= 64 {
        return Ok(text.to_owned());
    }
    let remedy = match text.split_once(char::is_whitespace) {
        Some((name, _)) => format!("write \"{name}\"; its options are kernel arguments, {name}.option=value"),
        None => "write only its name, \"vfio_pci\"".into(),
    };
    wrong(format!("{} is not a kernel module", quoted(text)), remedy)
}

/// One kernel argument that an operator may add.
pub fn kernel_argument(text: &str) -> Result<String, Wrong> {
    let key = text.split('=').next().unwrap_or_default();
    let good = !key.is_empty() && text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
    if !good {
        let remedy = "write each argument as a text of its own, without blanks and quotes";
        return wrong(format!("{} is not one kernel argument", quoted(text)), remedy);
    }
    let family = OWN_ARGUMENT_FAMILIES.iter().any(|start| key.starts_with(start));
    if family || OWN_ARGUMENTS.contains(&key) {
        return wrong(format!("\"{key}\" is an argument that boot and updates depend on"), "remove it");
    }
    Ok(text.to_owned())
}

/// Numbers of processors as a list, `0-1,8`.
pub fn cpus(text: &str) -> Result<String, Wrong> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| is_number && *number < MOST_CPUS)
    };
    let is_part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        number(first).zip(number(last)).is_some_and(|(first, last)| first <= last)
    };
    if text.split(',').all(is_part) {
        return Ok(text.to_owned());
    }
    wrong(
        format!("{} is not a list of processors", quoted(text)),
        "write \"0-1\" or \"0,8\", as lscpu numbers them",
    )
}

/// Path of a file that an operator may add.
pub fn file_path(text: &str) -> Result<String, Wrong> {
    let inner = text.strip_prefix("/etc/").unwrap_or_default();
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if inner.is_empty()
        || !inner.split('/').all(part)
        || text.chars().any(char::is_control)
        || text.len() > 255
    {
        let remedy = "write \"/etc/…\": the rest of a node is its image";
        return wrong(format!("{} is not a file under /etc", quoted(text)), remedy);
    }
    let under = |own: &str| text == own || text.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'));
    if let Some((own, instead)) = OWN_FILES.iter().find(|(own, _)| under(own)) {
        return wrong(format!("{} is Sheaf's own", quoted(own)), format!("use {instead} instead"));
    }
    let name = inner.rsplit('/').next().unwrap_or_default();
    if name.contains("sheaf") {
        let what = format!("{} has a name that is reserved for Sheaf's own files", quoted(text));
        return wrong(what, "choose another name");
    }
    Ok(text.to_owned())
}

/// Permissions in octal.
pub fn file_mode(text: &str) -> Result<String, Wrong> {
    let digits = text.strip_prefix('0').unwrap_or(text);
    if digits.len() == 3 && digits.chars().all(|c| ('0'..='7').contains(&c)) {
        if digits.chars().nth(2).is_some_and(|other| "2367".contains(other)) {
            return wrong(format!("\"{text}\" lets everyone write the file"), "write \"0644\"");
        }
        return Ok(format!("0{digits}"));
    }
    wrong(format!("{} is not a mode", quoted(text)), "write three octal digits, \"0644\" or \"0600\"")
}
