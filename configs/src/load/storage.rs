//! `[storage]`: pools on whole disks.
//!
//! Route in: the table. Route out: [`Storage`] whose pools share no name; that they share no disk, is checked with
//! those of `[install]`.

use super::disk::{self, Picked};
use super::{ELSEWHERE, plain};
use crate::diagnose::Report;
use crate::node::{Pool, Storage};
use crate::spanned::{At, Table};
use crate::syntax;

/// What was read, with the places that rules outside need.
pub(super) struct Read {
    pub config: Storage,
    pub disks: Vec<Picked>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let report = table.report();
    let pools = table.optional("pool", |value| pools(report, value.tables()?));
    let is_given = table.place("pool").is_some();
    table.finish(ELSEWHERE);
    if is_given && pools.is_none() {
        return None;
    }
    let (pools, disks): (Vec<_>, Vec<_>) = pools.unwrap_or_default().into_iter().unzip();
    let disks: Vec<_> = disks.into_iter().flatten().collect();
    disk::each_is_another(report, &disks);
    Some(Read { config: Storage { pools }, disks })
}

/// A pool, and its disks with their places.
type PoolAt = (Pool, Vec<Picked>);

fn pools(report: &Report<'_>, tables: Vec<Table<'_, '_>>) -> Option<Vec<PoolAt>> {
    let pools: Vec<_> = tables.into_iter().map(pool).collect();
    let names: Vec<At<String>> = pools.iter().filter_map(|(name, _)| name.clone()).collect();
    super::each_once(report, &names, Clone::clone);
    pools.into_iter().map(|(_, pool)| pool).collect()
}

/// The name apart, since it counts also where the rest of the table is wrong.
fn pool(mut table: Table<'_, '_>) -> (Option<At<String>>, Option<PoolAt>) {
    let report = table.report();
    let name = table.required("name", "name = \"fast\"", |value| value.text(syntax::pool_name));
    let disks = table.required("disks", "disks = [{ serial = \"…\" }]", |value| {
        let place = value.at();
        let disks: Option<Vec<_>> =
            value.tables()?.into_iter().map(disk::selector).collect::<Vec<_>>().into_iter().collect();
        if disks.as_ref().is_some_and(Vec::is_empty) {
            place.wrong(report, "names no disk", "write disks = [{ serial = \"…\" }]");
        }
        disks
    });
    table.finish(ELSEWHERE);
    let pool = match (plain(name.clone()), disks) {
        (Some(name), Some(disks)) => {
            let selectors = disks.iter().map(|disk| disk.selector.clone()).collect();
            Some((Pool { name, disks: selectors }, disks))
        }
        _ => None,
    };
    (name, pool)
}
