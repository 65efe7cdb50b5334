//! `[[image]]`: disk images that the node fetches and keeps.
//!
//! Route in: the tables. Route out: [`Image`]s with different names.

use super::ELSEWHERE;
use crate::diagnose::Report;
use crate::node::Image;
use crate::spanned::{At, Table};
use crate::syntax;
use std::collections::BTreeMap;

pub(super) fn read(report: &Report<'_>, tables: Vec<Table<'_, '_>>) -> Option<Vec<Image>> {
    let images: Vec<_> = tables.into_iter().map(image).collect();
    let mut seen = BTreeMap::new();
    for name in images.iter().filter_map(|(name, _)| name.as_ref()) {
        if let Some(first) = seen.insert(name.value.clone(), report.line(name.span.start)) {
            let what = format!("\"{}\" is already the image of line {first}", name.value);
            name.wrong(report, what, "rename one of them");
        }
    }
    images.into_iter().map(|(_, image)| image).collect()
}

/// The name apart, since it counts also where the rest of the table is wrong.
fn image(mut table: Table<'_, '_>) -> (Option<At<String>>, Option<Image>) {
    let name = table.required("name", "name = \"debian-13\"", |value| value.text(syntax::image_name));
    let url = table.required("url", "url = \"https://…\"", |value| value.text(syntax::image_url));
    let sha256 = table.required("sha256", "sha256 = \"<64 hex digits>\"", |value| value.text(syntax::sha256));
    table.finish(ELSEWHERE);
    let image = match (&name, url, sha256) {
        (Some(name), Some(url), Some(sha256)) => {
            Some(Image { name: name.value.clone(), url: url.value, sha256: sha256.value })
        }
        _ => None,
    };
    (name, image)
}
