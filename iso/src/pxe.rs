//! Release to network: a folder that PXE, iPXE and UEFI HTTP boot start the installer from.
//!
//! Why kernel and initrd apart: iPXE and GRUB load them one by one, on both firmwares; they are the very bytes of the
//! installer's UKI. UEFI's own network boot takes a UKI whole, and can give it no arguments: it gets one that names the
//! server in its command line, so it is made only when the folder's URL is known.
//! Why no config in the folder: it holds secrets, and anyone on that network may read the folder. The boot entries say
//! where it is handed out, by HTTPS, and the SHA-256 of that server's certificate.
//! Route in: a checked release, images, the folder's URL, where the config is. Route out: [`Plan`], a value; [`write()`]
//! carries it out.

use crate::plan::{Contents, PlanError};
use crate::release::Release;
use sheaf_config::manifest::Section;
use sheaf_host::chroot::Chroot;
use sheaf_host::run::{Command, Run};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub use crate::write::WriteError;

/// The release and images, below the folder.
const RELEASE: &str = "sheaf";
/// The node config of a medium, which has no place here; versions before 0.2 put one.
const CONFIG: &str = "sheaf/node.toml";
/// The kernel.
const KERNEL: &str = "vmlinuz";
/// The initrd with the installer.
const INITRD: &str = "initrd.img";
/// The UKI for UEFI's own network boot.
pub const UKI: &str = "sheaf.efi";
/// GRUB, for a NIC's own PXE on BIOS.
pub const GRUB: &str = "sheaf.0";
/// Script of iPXE, for a DHCP server to name.
pub const SCRIPT: &str = "boot.ipxe";
/// The same, under the name that iPXE asks for by itself.
const AUTO_SCRIPT: &str = "autoexec.ipxe";
/// An example of dnsmasq's settings.
const DNSMASQ: &str = "dnsmasq.conf";

/// GRUB's images and modules for BIOS, in the tools chroot.
const PLATFORM: &str = "/usr/lib/grub/i386-pc";
/// Modules of [`GRUB`].
const MODULES: &str = "pxe tftp http net normal linux echo sleep reboot serial terminal";
/// systemd's UEFI stub, in the tools chroot.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// A folder to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The installer's UKI, on the host.
    uki: PathBuf,
    /// Its kernel.
    linux: Section,
    /// Its initrd.
    initrd: Section,
    /// Path in the folder → file on the host.
    pub files: BTreeMap<String, PathBuf>,
    /// Path in the folder → what it holds.
    pub texts: BTreeMap<String, String>,
    /// What is made when the folder's URL is known.
    own: Option<Own>,
    /// Timestamp of what is made, in seconds.
    epoch: u64,
}

/// What firmware starts without iPXE's help.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    /// Command line of [`UKI`].
    command_line: String,
    /// Script in [`GRUB`].
    script: String,
}

/// Where the installer gets its node config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigServer {
    /// URL of the config, `https://…`.
    pub url: String,
    /// SHA-256 of the server's certificate in DER, hex.
    pub certificate: String,
}

/// Says what the folder will hold. `url` is where it will be served, `config` where the node config is.
pub fn plan(
    release: &Release,
    contents: &Contents,
    config: Option<&ConfigServer>,
    url: Option<&str>,
) -> Result<Plan, PlanError> {
    let media = crate::plan(release, contents)?;
    let files = media.files.into_iter().map(|(path, file)| (path.trim_start_matches('/').to_owned(), file));
    let files = files.filter(|(path, _)| path != CONFIG);
    let manifest = &release.manifest;
    let line = &manifest.installer_uki.command_line;
    let url = url.map(|url| url.trim_end_matches('/'));
    let arguments = |base: &str| {
        let config = config.map(|ConfigServer { url, certificate }| {
            format!(" sheaf.config={url} sheaf.config.certificate={certificate}")
        });
        format!("{line} sheaf.payload={base}/{RELEASE}{}", config.unwrap_or_default())
    };
    let script = ipxe(url, &arguments("${base}"));
    let mut texts = BTreeMap::from([(SCRIPT.to_owned(), script.clone()), (AUTO_SCRIPT.to_owned(), script)]);
    texts.extend(url.map(|url| (DNSMASQ.to_owned(), dnsmasq(url))));
    Ok(Plan {
        uki: media.uki,
        linux: manifest.installer_uki.linux,
        initrd: manifest.installer_uki.initrd,
        files: files.collect(),
        texts,
        own: url.map(|url| Own { command_line: arguments(url), script: grub(url, &arguments(url)) }),
        epoch: manifest.created,
    })
}

/// The host and port in `http://HOST:PORT/…`.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Without a URL the script takes the one it was loaded by; then that must be HTTP, which the installer speaks.
fn ipxe(url: Option<&str>, arguments: &str) -> String {
    let base = url.unwrap_or("${cwduri}");
    format!(
        "#!ipxe\n\
         # Starts the Sheaf installer on BIOS and UEFI: kernel and initrd of its UKI.\n\
         set base {base}\n\
         kernel ${{base}}/{KERNEL} initrd={INITRD} {arguments} || goto failed\n\
         initrd ${{base}}/{INITRD} || goto failed\n\
         boot || goto failed\n\
         :failed\n\
         echo Sheaf: the installer could not be loaded from ${{base}}; is that server up? Restarting in 30 s.\n\
         sleep 30\n\
         reboot\n"
    )
}

/// For BIOS machines whose NIC's own PXE loads GRUB by TFTP; the rest comes by HTTP. GRUB runs a script that is part of
/// its image line by line, before it knows `if`: without a serial port three lines fail, which does no harm.
fn grub(url: &str, arguments: &str) -> String {
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    let server = format!("(http,{}){path}", authority(url));
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input console serial\n\
         terminal_output console serial\n\
         echo \"Sheaf installer: loading from {url}\"\n\
         linux {server}/{KERNEL} {arguments}\n\
         initrd {server}/{INITRD}\n\
         boot\n\
         echo \"Sheaf: the installer could not be loaded from {url}; is that server up? Restarting in 30 s.\"\n\
         sleep 30\n\
         reboot\n"
    )
}

/// What a DHCP server tells each kind of client. As a proxy, the network's own DHCP server keeps giving addresses.
fn dnsmasq(url: &str) -> String {
    let host = authority(url);
    let address = host.rsplit_once(':').map_or(host, |(address, _)| address);
    format!(
        "# dnsmasq -d -C {DNSMASQ}: points machines to the Sheaf installer.\n\
         # For use beside the network's own DHCP server, which still assigns the addresses.\n\
         port=0\n\
         dhcp-range={address},proxy\n\
         # iPXE\n\
         dhcp-match=set:ipxe,175\n\
         dhcp-boot=tag:ipxe,{url}/{SCRIPT}\n\
         # A NIC's own PXE: GRUB on BIOS, the installer itself on UEFI, both by TFTP of `sheaf pxe --listen`.\n\
         dhcp-match=set:bios,option:client-arch,0\n\
         dhcp-match=set:uefi,option:client-arch,7\n\
         dhcp-boot=tag:bios,tag:!ipxe,{GRUB},{address},{address}\n\
         dhcp-boot=tag:uefi,tag:!ipxe,{UKI},{address},{address}\n\
         pxe-service=tag:!ipxe,x86PC,\"Sheaf\",{GRUB},{address}\n\
         pxe-service=tag:!ipxe,X86-64_EFI,\"Sheaf\",{UKI},{address}\n\
         # UEFI HTTP boot\n\
         dhcp-match=set:http,option:client-arch,16\n\
         dhcp-option-force=tag:http,60,HTTPClient\n\
         dhcp-boot=tag:http,{url}/{UKI}\n"
    )
}

/// Writes `plan` to the folder `out`, with the tools in `tools`. Files of an earlier one are replaced.
pub fn write(plan: &Plan, tools: &Chroot, run: &dyn Run, out: &Path) -> Result<(), WriteError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::Io { path, source }
    };
    let place = |path: &str| -> Result<PathBuf, WriteError> {
        let path = out.join(path);
        let folder = path.parent().unwrap_or(out);
        fs::create_dir_all(folder).map_err(fail(folder))?;
        Ok(path)
    };
    let old = out.join(CONFIG);
    match fs::remove_file(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(&old)(error)),
        _ => {}
    }
    for (path, file) in &plan.files {
        let path = place(path)?;
        fs::copy(file, &path).map_err(fail(&path))?;
    }
    for (path, text) in &plan.texts {
        let path = place(path)?;
        fs::write(&path, text).map_err(fail(&path))?;
    }
    for (name, section) in [(KERNEL, plan.linux), (INITRD, plan.initrd)] {
        let path = place(name)?;
        cut(&plan.uki, section, &path).map_err(fail(&path))?;
    }
    let Some(own) = &plan.own else { return Ok(()) };
    let early = out.join("grub.cfg");
    fs::write(&early, &own.script).map_err(fail(&early))?;
    let os_release = out.join("os-release");
    fs::write(&os_release, "ID=sheaf\nPRETTY_NAME=\"Sheaf installer\"\n").map_err(fail(&os_release))?;
    let at_work = tools.clone().write(out, "out");
    for command in commands(plan.epoch, own) {
        run.run(&at_work.enter(&command))?;
    }
    for left in [early, os_release] {
        fs::remove_file(&left).map_err(fail(&left))?;
    }
    Ok(())
}

/// Makes [`GRUB`] and [`UKI`] in /mnt/out.
fn commands(epoch: u64, own: &Own) -> [Command; 3] {
    let grub = Command::new("grub-mkimage")
        .args(["-O", "i386-pc-pxe", "-o", &format!("/mnt/out/{GRUB}"), "-p", "(pxe)/grub"])
        .args(["-d", PLATFORM, "-c", "/mnt/out/grub.cfg"])
        .args(MODULES.split_whitespace());
    let ukify = Command::new("ukify")
        .args(["build", &format!("--linux=/mnt/out/{KERNEL}"), &format!("--initrd=/mnt/out/{INITRD}")])
        .args([&format!("--cmdline={}", own.command_line), "--os-release=@/mnt/out/os-release"])
        .args([&format!("--stub={STUB}"), &format!("--output=/mnt/out/{UKI}")])
        .env("SOURCE_DATE_EPOCH", epoch.to_string());
    let readable =
        Command::new("chmod").args(["0644", &format!("/mnt/out/{GRUB}"), &format!("/mnt/out/{UKI}")]);
    [grub, ukify, readable]
}

/// Copies a part of the file `from` to the file `to`.
fn cut(from: &Path, section: Section, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    source.seek(SeekFrom::Start(section.offset))?;
    let copied = io::copy(&mut source.take(section.size), &mut File::create(to)?)?;
    match copied == section.size {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::chroot::Privilege;
    use sheaf_host::fakes::FakeRun;

    fn planned(dir: &Path, url: Option<&str>) -> Plan {
        let release = crate::release::tests::release(dir);
        let text = "version = 1\nsystem.hostname = \"n1\"\ncluster.mode = \"create\"\n\
                    cluster.token = \"abcdef.0123456789abcdef\"\n";
        let path = dir.join("node.toml");
        fs::write(&path, text).unwrap();
        let config = sheaf_config::load::config_file(&path).unwrap();
        let contents = Contents { config: Some((path, config)), ..Contents::default() };
        let server =
            ConfigServer { url: "https://192.0.2.1:8443/node.toml".into(), certificate: "ab12".into() };
        plan(&release, &contents, Some(&server), url).unwrap()
    }

    #[test]
    fn the_script_names_payload_and_pinned_config_below_the_servers_url() {
        let dir = tempfile::tempdir().unwrap();
        let plan = planned(dir.path(), Some("http://192.0.2.1:8080/"));
        let script = &plan.texts["boot.ipxe"];
        assert!(script.contains("set base http://192.0.2.1:8080\n"), "{script}");
        assert!(
            script.contains(
                "kernel ${base}/vmlinuz initrd=initrd.img quiet sheaf.payload=${base}/sheaf \
                 sheaf.config=https://192.0.2.1:8443/node.toml sheaf.config.certificate=ab12 || goto failed\n"
            ),
            "{script}"
        );
        assert_eq!(plan.texts["autoexec.ipxe"], *script);
        let own = plan.own.unwrap();
        assert!(own.command_line.starts_with("quiet sheaf.payload=http://192.0.2.1:8080/sheaf "), "{own:?}");
        assert!(own.script.contains("linux (http,192.0.2.1:8080)/vmlinuz quiet sheaf.payload="), "{own:?}");
        assert!(plan.texts["dnsmasq.conf"].contains("dhcp-boot=tag:http,http://192.0.2.1:8080/sheaf.efi\n"));
    }

    #[test]
    fn no_file_of_the_folder_holds_the_config_or_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let plan = planned(dir.path(), Some("http://192.0.2.1:8080/"));
        assert!(!plan.files.keys().any(|path| path.contains("node.toml")), "{:?}", plan.files);
        assert!(!plan.files.values().any(|file| file.ends_with("node.toml")), "{:?}", plan.files);
        assert!(!format!("{plan:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn without_a_url_the_script_takes_the_one_it_was_loaded_by() {
        let dir = tempfile::tempdir().unwrap();
        let plan = planned(dir.path(), None);
        assert!(plan.texts["boot.ipxe"].contains("set base ${cwduri}\n"));
        assert_eq!(plan.own, None);
        assert!(!plan.texts.contains_key("dnsmasq.conf"));
    }

    #[test]
    fn kernel_and_initrd_are_cut_out_of_the_uki() {
        let dir = tempfile::tempdir().unwrap();
        let plan = planned(dir.path(), None);
        let uki: Vec<u8> = (0..8000u32).map(|byte| (byte % 251) as u8).collect();
        fs::write(&plan.uki, &uki).unwrap();
        let out = dir.path().join("out");
        fs::create_dir_all(out.join("sheaf")).unwrap();
        fs::write(out.join("sheaf/node.toml"), "of an earlier version").unwrap();
        write(&plan, &Chroot::new("/tools", Privilege::Root), &FakeRun::default(), &out).unwrap();
        assert!(!out.join("sheaf/node.toml").exists());
        assert_eq!(fs::read(out.join("vmlinuz")).unwrap(), uki[512..1512]);
        assert_eq!(fs::read(out.join("initrd.img")).unwrap(), uki[2048..2560]);
        assert!(out.join("sheaf/root.erofs.zst").exists() && out.join("sheaf/manifest.json").exists());
    }

    #[test]
    fn a_uki_that_is_cut_short_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let plan = planned(dir.path(), None);
        fs::write(&plan.uki, [0; 600]).unwrap();
        let out = dir.path().join("out");
        let error =
            write(&plan, &Chroot::new("/tools", Privilege::Root), &FakeRun::default(), &out).unwrap_err();
        assert!(error.to_string().contains("vmlinuz: cannot be written"), "{error}");
    }
}
