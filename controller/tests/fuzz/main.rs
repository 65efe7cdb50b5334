//! Objects of tenants and requests of nodes, changed at random.

mod requests;
mod texts;
