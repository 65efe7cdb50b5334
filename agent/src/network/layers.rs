//! What is laid over node.toml's links, and lasts: one layer for each policy, one for what was confirmed by hand.
//!
//! Why here: the boot renders node.toml with the layers that were confirmed, also when no API server can be asked. Route
//! in: a trial that was confirmed. Route out: `/state/network/confirmed.json`; [`super::merge`] lays them over node.toml.

use crate::paths::Paths;
use serde::{Deserialize, Serialize};
use sheaf_links::Links;
use std::io;

/// Name of the layer that no policy owns. No policy can be called that.
pub const BY_HAND: &str = "by hand";

/// Links beyond those of node.toml.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layer {
    /// The policy, or [`BY_HAND`].
    pub name: String,
    /// The higher one counts where two name the same link.
    pub rank: u32,
    /// Of the policy; 0 by hand.
    pub generation: i64,
    /// Of the policy: another one of the same name is another one.
    pub uid: String,
    /// What it asks for.
    pub links: Links,
}

impl Layer {
    /// Its name in messages.
    pub fn title(&self) -> String {
        title(&self.name)
    }
}

/// As people call the layer `name`.
pub fn title(name: &str) -> String {
    if name == BY_HAND { name.to_owned() } else { format!("policy {name}") }
}

/// Layers that were confirmed, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layers {
    /// At most one of each name.
    pub layers: Vec<Layer>,
}

/// `/state/network/confirmed.json`: what each boot lays over node.toml.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confirmed {
    /// The trial that confirmed it. The rename that puts this file in its place is what ends that trial: before it the
    /// trial may be rolled back, after it never.
    pub trial: Option<String>,
    /// What is laid over node.toml.
    #[serde(flatten)]
    pub layers: Layers,
}

impl Confirmed {
    /// What was confirmed on this node. A file that cannot be read is an error: what it asked for would be taken away.
    pub fn read(paths: &Paths) -> io::Result<Self> {
        match std::fs::read(paths.confirmed_network()) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Makes it that of the next boot, at once or not at all.
    pub fn write(&self, paths: &Paths) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        Ok(sheaf_host::file::write_atomically(&paths.confirmed_network(), &text, 0o644)?)
    }
}

impl Layers {
    /// Those that were confirmed on this node.
    pub fn confirmed(paths: &Paths) -> io::Result<Self> {
        Ok(Confirmed::read(paths)?.layers)
    }

    /// The layer `name`.
    pub fn get(&self, name: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// These with `layer` in the place of the one of its name.
    pub fn with(&self, layer: Layer) -> Self {
        let mut layers = self.without(&layer.name);
        layers.layers.push(layer);
        layers.layers.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
        layers
    }

    /// These without the layer `name`.
    pub fn without(&self, name: &str) -> Self {
        Self { layers: self.layers.iter().filter(|layer| layer.name != name).cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_was_confirmed_is_read_again_and_damage_is_no_absence() {
        let root = std::env::temp_dir().join(format!("sheaf-layers-{}", std::process::id()));
        let paths = Paths::under(&root);
        assert_eq!(Layers::confirmed(&paths).unwrap(), Layers::default());
        let layer = |name: &str, rank| Layer { name: name.into(), rank, ..Layer::default() };
        let layers = Layers::default().with(layer("b", 5)).with(layer("a", 5)).with(layer("c", 1));
        Confirmed { trial: None, layers: layers.clone() }.write(&paths).unwrap();
        let read = Layers::confirmed(&paths).unwrap();
        assert_eq!(read, layers);
        let names: Vec<_> = read.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        std::fs::write(paths.confirmed_network(), "{").unwrap();
        assert!(Layers::confirmed(&Paths::under(Path::new(&root))).is_err());
        std::fs::remove_dir_all(root).unwrap();
    }
}
