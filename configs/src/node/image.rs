//! `[[image]]`: disk images that the node fetches and keeps.
//!
//! Route in: `load`. Route out: the agent's images controller, the installer's plan.

use schemars::JsonSchema;
use serde::Serialize;

/// A disk image that the node keeps in `/data/images`, where VMs use it as base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Image {
    /// File name and label: lowercase letters, digits, `-`, `.`.
    #[schemars(example = &"debian-13")]
    pub name: String,
    /// `https://…`, `http://…`, or `medium:FILE` for a file that `sheaf iso --image` put on the install medium.
    pub url: String,
    /// 64 hex digits, what `sha256sum FILE` prints.
    pub sha256: String,
}
