//! Configs of other installers to `node.toml`.
//!
//! Why here: an operator who moves has a fleet described already. Nothing is guessed: what a file says is carried
//! over, or stands in the notes with the reason; a key that nobody asked for is named as well. Secrets are carried
//! over and never noted. Route in: the other's text. Route out: [`Converted`], whose TOML the validator reads like any.

mod harvester;
mod proxmox;
mod source;

use crate::diagnose::{Errors, Report};
use crate::spanned::Document;
use source::Source;
use toml::{Table, Value};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Harvester's `config.yaml`.
    Harvester,
    /// `answer.toml` of Proxmox VE.
    Proxmox,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// A `node.toml`, secrets included, which may lack what the other file does not say.
    pub toml: String,
    /// What has no counterpart and what was decided, each `key: what it means`.
    pub notes: Vec<String>,
}

/// Converts `text`, which messages call `file`.
pub fn convert(from: From, file: &str, text: &str) -> Result<Converted, Errors> {
    let (name, tree) = match from {
        From::Harvester => ("Harvester's config.yaml", yaml(file, text)?),
        From::Proxmox => ("the answer.toml of Proxmox VE", toml_tree(file, text)?),
    };
    if !tree.is_object() {
        return Err(Errors::whole_file(file, format!("is not {name}"), "give the file itself"));
    }
    let mut source = Source::new(tree);
    let table = match from {
        From::Harvester => harvester::convert(&mut source),
        From::Proxmox => proxmox::convert(&mut source),
    };
    let notes = source.finish();
    let body = toml::to_string_pretty(&table)
        .map_err(|error| Errors::whole_file(file, error.to_string(), "please report this file"))?;
    let toml = format!("# Made from {name} by `sheaf config convert`. Read the notes it printed.\n{body}");
    Ok(Converted { toml, notes })
}

/// A `node.toml` of these parts; empty ones are left out.
fn document(parts: [(&str, Table); 4]) -> Table {
    let mut table = Table::from_iter([("version".to_owned(), Value::Integer(crate::node::VERSION.into()))]);
    let filled = parts.into_iter().filter(|(_, part)| !part.is_empty());
    table.extend(filled.map(|(key, part)| (key.to_owned(), Value::Table(part))));
    table
}

/// The values of a YAML text. Its error never quotes the line: a password may stand in it.
fn yaml(file: &str, text: &str) -> Result<serde_json::Value, Errors> {
    serde_saphyr::from_str(text).map_err(|error| {
        let report = Report::new(file, text);
        let at = error.location().and_then(|location| usize::try_from(location.line()).ok());
        let start = at.map_or(0, |line| report.start(line));
        report.add(
            &(start..start),
            "YAML",
            "is not well-formed",
            "correct the line (format: https://yaml.org)",
        );
        report.finish::<()>(None).unwrap_err()
    })
}

fn toml_tree(file: &str, text: &str) -> Result<serde_json::Value, Errors> {
    let report = Report::new(file, text);
    let parsed = Document::parse(&report).is_some();
    report.finish(parsed.then_some(()))?;
    let broken = |_| Errors::whole_file(file, "could not be parsed", "please report this file");
    toml::from_str(text).map_err(broken)
}
