//! Files of operators and answers of servers that are not yet known, changed at random.

mod cluster_info;
mod files;
#[path = "../golden/mod.rs"]
mod golden;
