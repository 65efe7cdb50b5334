//! Neighbours in memory.

use crate::reach::{Gateway, Reach};
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Who answers, as a test sets it.
#[derive(Debug, Default)]
pub struct FakeReach(Mutex<Answers>);

/// Who answers.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Default gateways, and the largest packet that each echoes; 0: it is silent.
    pub gateways: Vec<(Gateway, usize)>,
    /// Name servers, and whether each answers.
    pub name_servers: Vec<(IpAddr, bool)>,
}

impl FakeReach {
    /// From now on these answer.
    pub fn set(&self, answers: Answers) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }

    fn now(&self) -> Answers {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reach for FakeReach {
    fn gateways(&self) -> io::Result<Vec<Gateway>> {
        Ok(self.now().gateways.into_iter().map(|(gateway, _)| gateway).collect())
    }

    fn echoes(&self, gateway: &Gateway, packet: usize, _: Duration) -> bool {
        self.now().gateways.iter().any(|(there, largest)| there == gateway && packet <= *largest)
    }

    fn knocks(&self, gateway: &Gateway, _: Duration) -> bool {
        self.now().gateways.iter().any(|(there, largest)| there == gateway && *largest > 0)
    }

    fn name_servers(&self) -> Vec<IpAddr> {
        self.now().name_servers.into_iter().map(|(server, _)| server).collect()
    }

    fn answers(&self, server: IpAddr, _: Duration) -> bool {
        self.now().name_servers.contains(&(server, true))
    }
}
