//! `sheaf pxe DIR`: a folder that machines start the installer from over the network, and its server.

use crate::iso::{Chosen, Source};
use crate::serve::{CONFIG_PATH, Configs, Server};
use crate::workplace::Workplace;
use anyhow::{Context as _, Result, bail};
use sheaf_host::run::System;
use sheaf_iso::pxe;
use sheaf_os_image::tools;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use ureq::http::Uri;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder to create; files in it are replaced
    folder: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Where the folder will be served, as machines reach it; default: as --listen says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Serve the folder at this address of this machine by HTTP and TFTP until interrupted; default port: 8080
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    listen: Option<String>,
    /// HTTPS port from which each machine gets its node.toml once
    #[arg(long, value_name = "PORT", default_value_t = CONFIG_PORT, requires = "listen")]
    config_port: u16,
    /// Port for TFTP, or none
    #[arg(long, value_name = "PORT", default_value = "69", requires = "listen")]
    tftp: Tftp,
}

/// Port of HTTP unless --listen names one: needs no root.
const PORT: u16 = 8080;
/// Port of HTTPS unless --config-port names one.
const CONFIG_PORT: u16 = 8443;

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
    // The sockets first: what cannot be served need not be made.
    std::fs::create_dir_all(&arguments.folder).with_context(|| arguments.folder.display().to_string())?;
    let mut server =
        listen.map(|listen| Server::bind(&arguments.folder, listen, arguments.tftp.0)).transpose()?;
    let url = match (&arguments.url, &server) {
        (Some(url), _) => Some(checked(url)?),
        (None, Some(server)) => Some(own_url(server.http()?)?),
        (None, None) => None,
    };
    let Chosen { release, contents } = arguments.source.open(&place)?;
    let config = match (&contents.config, &mut server, &url) {
        (None, ..) => None,
        (Some((path, file)), Some(server), Some(url)) => {
            let (port, certificate) =
                server.with_configs(arguments.config_port, Configs::new(path, file.clone())?)?;
            Some(pxe::ConfigServer { url: config_url(url, port)?, certificate })
        }
        (Some((path, _)), ..) => bail!(
            "--config {}: holds secrets and is not put into the folder, which anyone on the network can read; add \
             --listen so that this command hands it out, or leave it out and give each machine a drive labelled \
             SHEAF-CONF",
            path.display()
        ),
    };
    let plan = pxe::plan(&release, &contents, config.as_ref(), url.as_deref())?;
    let tools = tools::ensure(&place.build_context(), &place.source, &place.mirrors(None))?;
    let folder = arguments.folder.canonicalize()?;
    pxe::write(&plan, &tools.chroot(), &System, &folder)?;
    println!("{}", folder.display());
    let (Some(server), Some(url)) = (server, url) else { return Ok(()) };
    eprintln!("serving {url}/ until interrupted; configure DHCP (dnsmasq.conf there is an example):");
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
    match &config {
        Some(config) => eprintln!(
            "  node.toml       {}, once for each node, to the first machine that asks. A machine that imitates another one can ask first; the request of the real one is then refused and shown here",
            config.url
        ),
        None => eprintln!("  node.toml       none: the installer asks on its screens"),
    }
    server.run()
}

/// The URL of the config at `port` of the host in `url`.
fn config_url(url: &str, port: u16) -> Result<String> {
    let uri: Uri = url.parse().with_context(|| format!("{url}: is not a URL"))?;
    let host = uri.host().with_context(|| format!("{url}: names no host"))?;
    Ok(format!("https://{host}:{port}{}", CONFIG_PATH))
}

/// `192.0.2.1`, `192.0.2.1:8080`, `[2001:db8::1]:8080`
pub fn address(text: &str) -> Result<SocketAddr> {
    let whole = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT)));
    whole.with_context(|| {
        format!(
            "--listen {text}: is not an address of this machine; write it as 192.0.2.1 or 192.0.2.1:{PORT}"
        )
    })
}

/// The URL that machines reach `address` by.
pub fn own_url(address: SocketAddr) -> Result<String> {
    if address.ip().is_unspecified() {
        bail!(
            "--listen {}: this is not an address that machines can reach; write one that is, or add --url",
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
        bail!("--url {url}: is not the URL of a folder; write it as http://192.0.2.1/sheaf");
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
    fn the_config_is_at_a_port_of_its_own_of_the_same_host() {
        let at = |url: &str| config_url(url, 8443).unwrap();
        assert_eq!(at("http://192.0.2.1:8080/sheaf"), "https://192.0.2.1:8443/node.toml");
        assert_eq!(at("http://[2001:db8::1]:8080"), "https://[2001:db8::1]:8443/node.toml");
        assert_eq!(at("http://boot.example"), "https://boot.example:8443/node.toml");
    }

    #[test]
    fn a_url_that_no_folder_can_have_is_refused() {
        assert_eq!(checked("http://192.0.2.1/sheaf/").unwrap(), "http://192.0.2.1/sheaf");
        for url in ["tftp://a/", "http:///x", "http://a/?x", "a", "http://a b/"] {
            assert!(checked(url).unwrap_err().to_string().contains("is not the URL of a folder"), "{url}");
        }
    }
}
