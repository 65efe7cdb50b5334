//! `[system]`: name, access and settings of the host.
//!
//! Route in: the table. Route out: [`System`] in which nothing is set twice and nothing that Sheaf sets itself.

use super::{ELSEWHERE, plain, values};
use crate::diagnose::Report;
use crate::node::{File, Secret, System};
use crate::spanned::{At, Table, wrong};
use crate::syntax;

/// Bytes: `/etc` is held in memory.
const LARGEST_FILE: usize = 256 << 10;

/// What was read, with the place that rules between machines need.
pub(super) struct Read {
    pub config: System,
    pub hostname: At<String>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let report = table.report();
    let hostname =
        table.required("hostname", "hostname = \"node-1\"", |value| value.text(syntax::hostname_template));
    let ssh_keys = table.optional("ssh-keys", |value| value.texts(syntax::ssh_key)).unwrap_or_default();
    let password_hash = table.optional("password-hash", |value| value.text(syntax::password_hash));
    let timezone = table.optional("timezone", |value| value.text(syntax::timezone));
    let sysctl = table.optional("sysctl", |value| {
        value.map(|key, text| {
            syntax::sysctl_key(&key.value)?;
            syntax::sysctl_value(text)
        })
    });
    let modules = table.optional("modules", |value| value.texts(syntax::module)).unwrap_or_default();
    let arguments =
        table.optional("kernel-arguments", |value| value.texts(syntax::kernel_argument)).unwrap_or_default();
    let files = table.optional("file", |value| files(report, value.tables()?)).unwrap_or_default();
    table.finish(ELSEWHERE);
    super::each_once(report, &ssh_keys, |key| key.split(' ').take(2).collect::<Vec<_>>().join(" "));
    super::each_once(report, &modules, |name| name.replace('-', "_"));
    super::each_once(report, &arguments, Clone::clone);
    let hostname = hostname?;
    let config = System {
        hostname: hostname.value.clone(),
        ssh_keys: values(ssh_keys),
        password_hash: plain(password_hash),
        timezone: plain(timezone),
        sysctl: sysctl.unwrap_or_default().into_iter().map(|(key, at)| (key, at.value)).collect(),
        modules: values(modules),
        kernel_arguments: values(arguments),
        files,
    };
    Some(Read { config, hostname })
}

fn files(report: &Report<'_>, tables: Vec<Table<'_, '_>>) -> Option<Vec<File>> {
    let files: Vec<_> = tables.into_iter().map(file).collect();
    let paths: Vec<&At<String>> = files.iter().filter_map(|(path, _)| path.as_ref()).collect();
    for (index, path) in paths.iter().enumerate() {
        for first in &paths[..index] {
            let line = report.line(first.span.start);
            let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            if path.value == first.value {
                path.wrong(
                    report,
                    format!("\"{}\" is already the file of line {line}", path.value),
                    "keep one of them",
                );
            } else if below(&path.value, &first.value) || below(&first.value, &path.value) {
                let what = format!("\"{}\" and the file of line {line} cannot both be there", path.value);
                path.wrong(report, what, "one would have to be a directory: choose another name");
            }
        }
    }
    files.into_iter().map(|(_, file)| file).collect()
}

/// The path apart, since it counts also where the rest of the table is wrong.
fn file(mut table: Table<'_, '_>) -> (Option<At<String>>, Option<File>) {
    let path = table.required("path", "path = \"/etc/…\"", |value| value.text(syntax::file_path));
    let mode = table.optional("mode", |value| value.text(syntax::file_mode));
    let content = table.required("content", "content = \"…\"", |value| {
        value.text(|text| match text.len() > LARGEST_FILE || text.contains('\0') {
            true => wrong("is not text of at most 256 KiB", "put larger files into an image"),
            false => Ok(Secret(text.to_owned())),
        })
    });
    table.finish(ELSEWHERE);
    let file = match (&path, content) {
        (Some(path), Some(content)) => Some(File {
            path: path.value.clone(),
            mode: plain(mode).unwrap_or_else(crate::node::default_mode),
            content: content.value,
        }),
        _ => None,
    };
    (path, file)
}
