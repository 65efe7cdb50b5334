//! `[vms]`.
//!
//! Route in: the table. Route out: [`Vms`].

use super::{ELSEWHERE, plain};
use crate::node::Vms;
use crate::spanned::Table;
use crate::syntax;

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Vms> {
    let nested = table.optional("nested", |value| value.boolean());
    let reserved_cpus = table.optional("reserved-cpus", |value| value.text(syntax::cpus));
    table.finish(ELSEWHERE);
    Some(Vms { nested: plain(nested).unwrap_or_default(), reserved_cpus: plain(reserved_cpus) })
}
