//! What the machine and the network may do to a controller must never hold up the agent's one thread: the lease is renewed
//! on it. Helper and tests.

use crate::api_server::{Joined, Kube, RequestError};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use sheaf_host::run::{Command, Output, Run, RunError};
use std::future::Future;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long something stalls in a test: much longer than [`PROMPT`].
pub const STALL: Duration = Duration::from_millis(1500);
/// The most that a timer may be late on a busy machine.
pub const PROMPT: Duration = Duration::from_millis(700);

/// Does `work`, and gives the longest time by which a timer on the same thread was late meanwhile: what a renewal of the
/// lease would have waited.
pub async fn lateness_during<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let tick = Duration::from_millis(10);
    let mut most = Duration::ZERO;
    let mut work = std::pin::pin!(work);
    loop {
        let began = Instant::now();
        let done = tokio::time::timeout(tick, work.as_mut()).await;
        most = most.max(began.elapsed().saturating_sub(tick));
        if let Ok(done) = done {
            return (done, most);
        }
    }
}

/// Programs that print nothing, each after [`STALL`]: a disk that does not answer.
pub struct Stalled {
    never: Mutex<mpsc::Receiver<()>>,
    _open: mpsc::Sender<()>,
}

impl Default for Stalled {
    fn default() -> Self {
        let (open, never) = mpsc::channel();
        Self { never: Mutex::new(never), _open: open }
    }
}

impl Run for Stalled {
    fn run(&self, _: &Command) -> Result<Output, RunError> {
        // It blocks the thread it is called on, as waiting for a program does.
        let _ = self.never.lock().unwrap().recv_timeout(STALL);
        Ok(Output { stdout: br#"{"blockdevices": []}"#.to_vec(), stderr: Vec::new() })
    }
}

#[tokio::test]
async fn a_disk_that_does_not_answer_does_not_hold_up_the_lease() {
    let config =
        sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n").unwrap();
    let (ctx, publish) = crate::channels::open(crate::paths::Paths::under("/nonexistent".as_ref()), config);
    let hosts = crate::disks::Hosts {
        disks: Arc::new(sheaf_host::disks::Programs(Arc::new(Stalled::default()))),
        lvm: Arc::new(sheaf_host::fakes::FakeLvm::default()),
        news: Arc::new(sheaf_host::fakes::FakeBlockNews::default()),
        root: "/nonexistent".into(),
    };
    let mut disks = ctx.disks.clone();
    let run = crate::disks::run(ctx.clone(), publish.disks, publish.sections.disks, hosts, Arc::default());
    let observed = async {
        tokio::select! {
            ended = run => panic!("{ended:?}"),
            observed = disks.wait_for(|disks| disks.observed) => observed.map(drop).unwrap(),
        }
    };
    let began = Instant::now();
    let ((), late) = lateness_during(observed).await;
    assert!(began.elapsed() >= STALL && late < PROMPT, "a timer was late by {late:?}");
}

#[tokio::test]
async fn an_api_server_that_takes_connections_and_never_answers_does_not_hold_up_the_lease() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = kube::Config::new(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let joined = Joined { client, node: "n1".into(), node_uid: String::new() };
    let (_keep, joined) = watch::channel(Some(joined));
    let kube = Kube::new(joined).with_timeout(STALL);
    let request = kube.request(|joined| async move { Api::<Node>::all(joined.client).get("n1").await });
    let (answer, late) = lateness_during(request).await;
    assert!(matches!(answer, Err(RequestError::Timeout(_))), "{answer:?}");
    assert!(late < PROMPT, "a timer was late by {late:?}");
}

/// The very thing that the two tests above would miss: a program that is waited for on the thread itself.
#[tokio::test]
async fn what_blocks_the_thread_is_noticed() {
    let stalled = Stalled::default();
    let (_, late) = lateness_during(async { stalled.run(&Command::new("lsblk")) }).await;
    assert!(late >= PROMPT, "a timer was late by {late:?} only");
}
