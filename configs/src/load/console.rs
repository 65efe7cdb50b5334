//! `[console]`.
//!
//! Route in: the table. Route out: a [`Console`] whose key belongs to its certificate.

use super::ELSEWHERE;
use crate::node::Console;
use crate::served;
use crate::spanned::Table;
use crate::syntax;

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Console> {
    let report = table.report();
    let example = "certificate = \"\"\"-----BEGIN CERTIFICATE-----…\"\"\"";
    let certificate = table.required("certificate", example, |value| value.text(syntax::certificate_chain));
    let example = "key = \"\"\"-----BEGIN PRIVATE KEY-----…\"\"\"";
    let key = table.required("key", example, |value| value.text(syntax::private_key));
    table.finish(ELSEWHERE);
    let (certificate, key) = (certificate?, key?);
    if !served::belongs(key.value.reveal(), &certificate.value) {
        key.wrong(
            report,
            "does not belong to certificate",
            "give the key that the certificate was requested with",
        );
        return None;
    }
    Some(Console { certificate: certificate.value, key: key.value })
}
