//! `sheaf serve IMAGE`: offers one image to the nodes, from the operator's own machine.
//!
//! Why here: a node takes images from servers, and an operator who has a file has no server. Nodes have no door for bytes
//! from outside, so they come and fetch it. Route in: the file. Route out: its URL and SHA-256 for a DataVolume, and the
//! file to anyone who asks, as often and from whichever byte on.

use crate::pxe::{address, checked, own_url};
use crate::serve::Server;
use anyhow::{Context as _, Result, ensure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sheaf_os_image::inputs::Digest;
use std::path::PathBuf;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// The image: raw or qcow2, either packed by xz, zstd or gzip
    image: PathBuf,
    /// Address of this machine that nodes reach; default port: 8080
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    listen: String,
    /// What nodes are to call this machine, where that is another address
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Prints URL and checksum, then serves until interrupted.
pub fn run(arguments: &Arguments) -> Result<()> {
    let image = &arguments.image;
    ensure!(image.is_file(), "{}: is not a file; give the image of a disk", image.display());
    let server = Server::bind(image, address(&arguments.listen)?, None)?;
    let base = match &arguments.url {
        Some(url) => checked(url)?,
        None => own_url(server.http()?)?,
    };
    let name = image.file_name().context("an image without a name")?.to_string_lossy();
    let url = format!("{base}/{}", encoded(&name));
    let checksum = format!("sha256:{}", Digest::of_file(image)?.as_str());
    println!("{url} {checksum}");
    eprint!("{}", advice(&url, &checksum));
    server.run()
}

fn advice(url: &str, checksum: &str) -> String {
    format!(
        "In a DataVolume that takes it:\n  source: {{http: {{url: \"{url}\", checksum: \"{checksum}\"}}}}\n\
         For a DataVolume with source upload; its condition Running names the LocalVolume:\n  \
         kubectl annotate --overwrite localvolume NAME sheaf.dev/image='{url} {checksum}'\n\
         Serving until interrupted; each request is shown here.\n"
    )
}

/// What stays as it is in a part of a URL's path (RFC 3986 §2.3).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The name as a part of a URL.
fn encoded(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_letters_is_a_part_of_a_url() {
        assert_eq!(encoded("debian-13.qcow2"), "debian-13.qcow2");
        assert_eq!(encoded("my disk/ä"), "my%20disk%2F%C3%A4");
    }

    #[test]
    fn what_is_said_can_be_pasted() {
        let said = advice("http://192.0.2.1:8080/a", "sha256:00");
        assert!(said.contains("source: {http: {url: \"http://192.0.2.1:8080/a\", checksum: \"sha256:00\"}}"));
        assert!(said.contains("sheaf.dev/image='http://192.0.2.1:8080/a sha256:00'"));
    }

    #[test]
    fn what_is_no_file_is_refused_before_it_is_served() {
        let arguments = Arguments { image: "/".into(), listen: "127.0.0.1:0".into(), url: None };
        assert_eq!(run(&arguments).unwrap_err().to_string(), "/: is not a file; give the image of a disk");
    }
}
