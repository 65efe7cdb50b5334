//! `sheaf pxe DIR`: a folder that machines start the installer from over the network, and its server.

use crate::iso::{Chosen, Source};
use crate::serve::Server;
use crate::workplace::Workplace;
use anyhow::{Context as _, Result, bail};
use sheaf_host::run::System;
use sheaf_iso::pxe;
use sheaf_os_image::inputs::Digest;
use sheaf_os_image::tools;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder that is made, or whose files are replaced
    folder: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Where the folder will be served, as machines reach it; default: as --listen says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Serve the folder at this address of this machine by HTTP and TFTP until interrupted; default port: 8080
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    listen: Option<String>,
    /// Port for TFTP, or none
    #[arg(long, value_name = "PORT", default_value = "69", requires = "listen")]
    tftp: Tftp,
}

/// Port of HTTP unless --listen names one: needs no root.
const PORT: u16 = 8080;

/// Whether TFTP is served, and where.
#[derive(Clone, Copy)]
struct Tftp(Option<u16>);

impl FromStr for Tftp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            port => port.parse().map(|port| Self(Some(port))).map_err(|_| "write a port or none".into()),
        }
    }
}

/// Runs it; prints the folder's path, then serves when asked to.
pub fn run(arguments: &Arguments) -> Result<()> {
    let place = Workplace::find()?;
    let listen = arguments.listen.as_deref().map(address).transpose()?;
    // The sockets first: what can not be served need not be made.
    std::fs::create_dir_all(&arguments.folder).with_context(|| arguments.folder.display().to_string())?;
    let server =
        listen.map(|listen| Server::bind(&arguments.folder, listen, arguments.tftp.0)).transpose()?;
    let url = match (&arguments.url, &server) {
        (Some(url), _) => Some(checked(url)?),
        (None, Some(server)) => Some(own_url(server.http()?)?),
        (None, None) => None,
    };
    let Chosen { release, contents } = arguments.source.open(&place)?;
    let hash = contents.config.as_ref().map(|(path, _)| Digest::of_file(path)).transpose()?;
    let plan = pxe::plan(&release, &contents, hash.as_ref().map(Digest::as_str), url.as_deref())?;
    let tools = tools::ensure(&place.shop(), &place.source, &place.mirrors(None))?;
    let folder = arguments.folder.canonicalize()?;
    pxe::write(&plan, &tools.chroot(), &System, &folder)?;
    println!("{}", folder.display());
    let (Some(server), Some(url)) = (server, url) else { return Ok(()) };
    eprintln!("serving {url}/ until interrupted; tell machines by DHCP (dnsmasq.conf there does it):");
    eprintln!("  iPXE            {url}/{}", pxe::SCRIPT);
    eprintln!("  UEFI HTTP boot  {url}/{}", pxe::UKI);
    if let Some(tftp) = server.tftp()? {
        eprintln!(
            "  PXE by TFTP     {} (BIOS) or {} (UEFI) from {} port {}",
            pxe::GRUB,
            pxe::UKI,
            tftp.ip(),
            tftp.port()
        );
    }
    server.run()
}

/// `192.0.2.1`, `192.0.2.1:8080`, `[2001:db8::1]:8080`
pub fn address(text: &str) -> Result<SocketAddr> {
    let whole = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT)));
    whole.with_context(|| {
        format!("--listen {text}: is no address of this machine; write it as 192.0.2.1 or 192.0.2.1:{PORT}")
    })
}

/// The URL that machines reach `address` by.
pub fn own_url(address: SocketAddr) -> Result<String> {
    if address.ip().is_unspecified() {
        bail!(
            "--listen {}: machines can not be told this address; name the one that they reach, or add --url",
            address.ip()
        );
    }
    Ok(format!("http://{address}"))
}

/// Without the last slash.
pub fn checked(url: &str) -> Result<String> {
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_default();
    if host.is_empty()
        || host.starts_with('/')
        || url.contains(|c: char| c.is_whitespace() || "?#\"'$".contains(c))
    {
        bail!("--url {url}: is no URL of a folder; write it as http://192.0.2.1/sheaf");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_port_8080_unless_it_says_another() {
        assert_eq!(address("192.0.2.1").unwrap(), "192.0.2.1:8080".parse().unwrap());
        assert_eq!(address("[2001:db8::1]:80").unwrap(), "[2001:db8::1]:80".parse().unwrap());
        assert_eq!(own_url(address("2001:db8::1").unwrap()).unwrap(), "http://[2001:db8::1]:8080");
        assert!(address("server").unwrap_err().to_string().contains("write it as 192.0.2.1"));
        assert!(own_url(address("0.0.0.0").unwrap()).unwrap_err().to_string().contains("add --url"));
    }

    #[test]
    fn a_url_that_no_folder_can_have_is_refused() {
        assert_eq!(checked("http://192.0.2.1/sheaf/").unwrap(), "http://192.0.2.1/sheaf");
        for url in ["tftp://a/", "http:///x", "http://a/?x", "a", "http://a b/"] {
            assert!(checked(url).unwrap_err().to_string().contains("is no URL of a folder"), "{url}");
        }
    }
}
