//! State of the node's API over played hosts, for its tests. No API server is behind it.

use super::{Hosts, serve::State};
use crate::api_server::Kube;
use crate::channels;
use crate::listed::Listed;
use crate::paths::Paths;
use sheaf_config::load::parse_node_config;
use sheaf_host::fakes::{FakeRun, FakeVms};
use std::sync::Arc;
use tokio::sync::watch;

const NODE_TOML: &str = "version = 1\n[system]\nhostname = \"n1\"\n[cluster]\nmode = \"create\"\ntoken = \"abcdef.0123456789abcdef\"\n";

/// A node whose files are below `root`.
pub struct Fixture {
    pub state: Arc<State<FakeVms>>,
    pub root: tempfile::TempDir,
    pub publish: channels::Publish,
}

impl Fixture {
    pub fn new(vms: FakeVms, run: FakeRun) -> Self {
        let root = tempfile::tempdir().unwrap();
        let config = parse_node_config("node.toml", NODE_TOML).unwrap();
        let (ctx, publish) = channels::open(Paths::under(root.path()), config);
        let pods = Arc::new(watch::Sender::new(Listed::default()));
        let hosts = Hosts { vms: Arc::new(vms), pods, run: Arc::new(run), port: 0 };
        let kube = Kube::new(ctx.cluster.clone());
        Self { state: Arc::new(State::new(ctx, kube, hosts)), root, publish }
    }
}
