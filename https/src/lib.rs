//! HTTPS as agent, controller and console serve it, and as controller and console ask agents and one another.
//!
//! Why here: three programs answer requests on ports that anyone on the network reaches. What such a port must withstand before
//! it is known who asks (silent connections, a flood of them, certificates that ended meanwhile) is the same for all, so it is
//! written once. HTTP/1.1 alone: consoles and displays are upgrades, which HTTP/2 has not.
//!
//! Route in: a TCP listener, certificates in PEM. Route out: requests, each with the [`Peer`] that sent it and a body that is [`Received`];
//! connectors.

mod acceptor;
mod connections;
mod connector;
mod pem;
mod places;
mod received;

pub use acceptor::{AcceptorError, acceptor};
pub use connections::{Limits, Peer, serve, talk};
pub use connector::{ConnectorError, connector};
pub use pem::PemError;
pub use places::{Full, Place, Places};
pub use received::Received;
