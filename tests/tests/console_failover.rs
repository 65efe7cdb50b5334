//! Who works in the console and the control-plane node that the browser spoke to is lost.
//!
//! Why here: a session is a record in etcd, the address for people moves by a Lease, a stream and an upload are connections to one
//! console: that somebody goes on without a login, address, API server and three consoles show together alone. Three control-plane nodes are
//! processes in network namespaces; each loss is one that sends no end of a connection. Route in: curl as a browser, and Chromium
//! (`console/web/test/real/failover.test.ts`). Route out: seconds, printed.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::api::Api;
use serde_json::{Value, json};
use sheaf_api::cdi::DataVolumePhase;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::console::{Browser, PASSWORD, Stream, Upload, ask};
use sheaf_tests::controlled::wait;
use sheaf_tests::planes::{Computer, joining};
use sheaf_tests::played::PlayedNode;
use sheaf_tests::played_pool::{self, PlayedDisks};
use sheaf_tests::site::{Certificates, Loss, MACHINES, Site};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;

/// The longest time from a loss until the session is answered by another console, and a change is seen on the stream.
const MOVE: Duration = Duration::from_secs(15);
/// The longest time from a loss until who sends an image learns that it did not arrive.
const BROKEN: Duration = Duration::from_secs(60);
/// The longest time from then until the image is taken: a console that is gone is silent, and 120 s without a byte end an upload
/// (docs/console.md).
const TAKEN: Duration = Duration::from_secs(180);
/// The longest time until the other consoles know that a session has ended.
const SIGNED_OUT: Duration = Duration::from_secs(5);
/// The same of a console that was cut off meanwhile, from the moment when it is reached again.
const REJOINED: Duration = Duration::from_secs(15);
/// Longest wait for what has a bar, so that a failure says how long it took.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest run of the pages.
const PAGES: Duration = Duration::from_secs(1500);
/// Where node modules are, and the tests of pages.
const WEB: &str = "console/web";

/// Looks until there is something; how long after `begun` that was.
async fn since<T>(
    begun: Instant,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<Duration> {
    loop {
        // What fails now may be answered later.
        let found = look();
        if let Ok(Some(_)) = found {
            return Ok(begun.elapsed());
        }
        let why = found.err();
        ensure!(begun.elapsed() < LONGEST, "not within {LONGEST:?}: {what}: {why:?}");
        tokio::time::sleep(AGAIN).await; // until the next try
    }
}

/// What a console answers to a session within 2 s; a connection of its own each time.
fn asked(by: &Browser, address: &str, words: &[&str], path: &str) -> Result<(u16, String)> {
    let at = by.at(address);
    let mut all = vec!["--max-time", "2"];
    all.extend(at.headers().iter().flat_map(|header| ["-H", *header]));
    all.extend(words);
    Ok(ask(address, &all, path)?.said())
}

/// The status of the session at a console.
fn session(by: &Browser, address: &str) -> Result<u16> {
    Ok(asked(by, address, &[], "/console/session")?.0)
}

/// Whether the list of machines is answered, and has this one.
fn lists(by: &Browser, address: &str, name: &str) -> Result<Option<()>> {
    let (status, said) = asked(by, address, &[], MACHINES)?;
    let list: Value = serde_json::from_str(&said).unwrap_or_default();
    let has = |one: &Value| one["metadata"]["name"] == name;
    Ok((status == 200 && list["items"].as_array().is_some_and(|items| items.iter().any(has))).then_some(()))
}

/// Creates a machine by a session.
fn creates(by: &Browser, address: &str, name: &str) -> Result<Option<()>> {
    let body = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}}}});
    let words = ["-X", "POST", "-H", "content-type: application/json", "--data-raw", &body.to_string()];
    let path = "/api/apis/kubevirt.io/v1/namespaces/default/virtualmachines";
    let (status, _) = asked(by, address, &words, path)?;
    // A try that was not answered may have been heard.
    Ok([201, 409].contains(&status).then_some(()))
}

/// A stream that is open and has brought this machine.
async fn opened(by: &Browser, name: &str) -> Result<Stream> {
    let (mut stream, begun) = (by.watch("machines")?, Instant::now());
    let needle = format!("\"default/{name}\"");
    since(begun, &format!("the stream brings {name}"), || {
        if stream.has_ended() && !stream.has(&needle) {
            stream = by.watch("machines")?;
        }
        Ok(stream.has(&needle).then_some(()))
    })
    .await?;
    Ok(stream)
}

/// What is measured of a loss.
struct Measured {
    listed: Duration,
    created: Duration,
    streamed: Duration,
    noticed: bool,
    broken: Duration,
    answer: u16,
    taken: Duration,
    refused: Vec<u16>,
}

/// The node that has the address for people is lost under a stream and an upload of `by`.
async fn lose(
    site: &mut Site,
    by: &Browser,
    disks: &PlayedDisks,
    loss: Loss,
    image: &Path,
) -> Result<Measured> {
    let address = site.address();
    let (before, after) = (format!("before-{}", loss.word()), format!("after-{}", loss.word()));
    let volume = format!("disk-{}", loss.word());
    let admin = site.admin().await?;
    played_pool::asked(&admin, &volume, 64).await?;
    played_pool::phase(&admin, &volume, DataVolumePhase::UploadReady).await?;
    let mut upload = by.upload(&volume, image, "1M")?;
    played_pool::takes_bytes(&admin).await?;
    since(Instant::now(), "a machine is created", || creates(by, &address, &before)).await?;
    let mut stream = opened(by, &before).await?;

    let (lost, begun) = site.lose_holder(loss)?;
    let listed = since(begun, "the list of machines", || lists(by, &address, &before)).await?;
    let now = site.holder()?.context("a node that is not lost has the address")?;
    ensure!(now != lost, "another node answers");
    let created =
        since(begun, "a machine is created after the loss", || creates(by, &address, &after)).await?;
    let noticed = stream.has_ended();
    drop(stream);
    let _stream = opened(by, &after).await?;
    let streamed = begun.elapsed();

    let (broken, answer) = broken(&mut upload, begun).await?;
    let begun = Instant::now();
    let mut refused = Vec::new();
    let mut next = by.upload(&volume, image, "1G")?;
    let taken = since(begun, "the image is taken", || match next.ended()? {
        None => Ok(None),
        Some((204, _)) => Ok(Some(())),
        Some((status, said)) => {
            println!("  {:.1} s later: {status} {said}", begun.elapsed().as_secs_f64());
            refused.push(status);
            next = by.upload(&volume, image, "1G")?;
            Ok(None)
        }
    })
    .await?;
    let admin = site.admin().await?;
    played_pool::phase(&admin, &volume, DataVolumePhase::Succeeded).await?;
    ensure!(disks.disk_of(&admin, &volume).await? == std::fs::read(image)?, "the image is on the disk");
    Ok(Measured { listed, created, streamed, noticed, broken, answer, taken, refused })
}

/// Until an upload has ended: when, and its status.
async fn broken(upload: &mut Upload, begun: Instant) -> Result<(Duration, u16)> {
    let mut answer = 0;
    let broken = since(begun, "the upload ends", || {
        let ended = upload.ended()?;
        Ok(ended.map(|(status, said)| {
            println!("  the upload ended: {status} {said}");
            answer = status;
        }))
    });
    Ok((broken.await?, answer))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_goes_on_at_another_console_and_so_do_its_stream_and_an_upload_that_is_sent_again()
-> Result<()> {
    let mut site = Site::make(Certificates::Given).await?;
    let anna = site.claim("anna").await?;
    let client = site.admin().await?;
    let files = joining(&site.planes()[0], "n1").await?;
    let mut node = PlayedNode::of(&client, files, site.network.near_address()).await?;
    let disks = PlayedDisks::make(&client, &node, 256).await?;
    disks.serve(&mut node);
    let image: Vec<u8> = (0..64_usize << 20).map(|at| (at % 251) as u8).collect();
    let image = disks.file("image.raw", &image)?;

    for loss in Loss::ALL {
        let measured = lose(&mut site, &anna, &disks, loss, &image).await.with_context(|| site.tails())?;
        let Measured { listed, created, streamed, noticed, broken, answer, taken, refused } = measured;
        println!(
            "{loss}: machines listed after {:.1} s, one created after {:.1} s, seen on a stream after {:.1} s (the end of the \
             former stream was noticed by then: {noticed}); upload broken after {:.1} s with {answer}, taken {:.1} s later, \
             refused {refused:?} before",
            listed.as_secs_f64(),
            created.as_secs_f64(),
            streamed.as_secs_f64(),
            broken.as_secs_f64(),
            taken.as_secs_f64(),
        );
        ensure!(listed <= MOVE && streamed <= MOVE, "{loss}: {listed:?}, {streamed:?}");
        ensure!(answer == 0 || answer >= 400, "an image that did not arrive is no success: {answer}");
        ensure!(broken <= BROKEN && taken <= TAKEN, "{loss}: {broken:?}, {taken:?}");
        site.reconnect()?;
        site.is_whole().await?;
    }
    signs_out(&mut site, &anna).await
}

/// Who signs out at one console has signed out at all, also at one that was cut off meanwhile.
async fn signs_out(site: &mut Site, anna: &Browser) -> Result<()> {
    let address = site.address();
    let again = Browser::log_in(&address, "anna")?;
    let all = [0, 1, 2].map(|at| site.address_of(at));
    for console in &all {
        since(
            Instant::now(),
            "the session is known",
            || Ok((session(&again, console)? == 200).then_some(())),
        )
        .await?;
    }
    let signs_out = |by: &Browser, at: &str| asked(by, at, &["-X", "POST"], "/console/logout");
    let (status, said) = signs_out(&again, &all[0])?;
    ensure!(status == 200 || status == 204, "{status} {said}");
    let begun = Instant::now();
    for console in [&all[0], &all[1], &all[2], &address] {
        since(begun, "the session has ended", || Ok((session(&again, console)? == 401).then_some(())))
            .await?;
    }
    let took = begun.elapsed();
    println!("signed out at one console: ended at the others after {:.1} s", took.as_secs_f64());
    ensure!(took <= SIGNED_OUT, "{took:?}");
    ensure!(session(anna, &address)? == 200, "another session of the same user goes on");

    let again = Browser::log_in(&address, "anna")?;
    since(Instant::now(), "the session is known", || Ok((session(&again, &all[2])? == 200).then_some(())))
        .await?;
    site.lose(2, Loss::Cable)?;
    let begun = Instant::now();
    since(begun, "it is signed out", || {
        let (status, _) = signs_out(&again, &all[0])?;
        Ok([200, 204, 401].contains(&status).then_some(()))
    })
    .await?;
    site.reconnect()?;
    let mut reached = None;
    since(Instant::now(), "the session has ended at the console that was cut off", || {
        let status = session(&again, &all[2])?;
        reached.get_or_insert_with(Instant::now);
        Ok((status == 401).then_some(()))
    })
    .await?;
    let took = reached.context("it was reached")?.elapsed();
    println!("cut off meanwhile: ended {:.1} s after it was reached again", took.as_secs_f64());
    ensure!(took <= REJOINED, "{took:?}");
    site.is_whole().await
}

/// What the pages ask for while they run: a line each.
async fn obey(site: &mut Site, line: &str) -> Result<String> {
    let mut lost = |loss| {
        let (at, _) = site.lose_holder(loss)?;
        anyhow::Ok(site.planes()[at].name().to_owned())
    };
    match line.split_once(' ').unwrap_or((line, "")) {
        ("lose", "power") => lost(Loss::Power),
        ("lose", "cable") => lost(Loss::Cable),
        ("create", name) => {
            site.create(name).await?;
            Ok(name.to_owned())
        }
        ("heal", _) => {
            site.reconnect()?;
            site.is_whole().await?;
            Ok("whole".into())
        }
        _ => anyhow::bail!("the pages ask for {line:?}"),
    }
}

/// Does what the pages ask for, until dropped.
async fn obeys(site: &mut Site, orders: &UnixListener) -> Result<()> {
    loop {
        let (stream, _) = orders.accept().await?;
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            let done = obey(site, &line).await.with_context(|| line.clone())?;
            println!("  {line}: {done}");
            write.write_all(format!("{done}\n").as_bytes()).await?;
        }
    }
}

/// The pages in Chromium on `computer`, which end by themselves; what they said.
fn pages(
    computer: &Computer,
    site: &Site,
    losses: &[Loss],
    orders: &Path,
    picture: &Path,
) -> Result<Command> {
    let web = sheaf_machine::workspace()?.join(WEB);
    if !web.join("node_modules").exists() {
        System.run(&Command::new("npm").args(["ci", "--ignore-scripts"]).dir(&web))?;
    }
    let test = "test/real/failover.test.ts";
    let holder = site.holder()?.context("a node has the address")?;
    let losses: Vec<_> = losses.iter().map(|loss| loss.word()).collect();
    let words = ["exec", "--", "vitest", "run", "--config", "test/real/vitest.config.ts", test];
    Ok(computer
        .command("npm")
        .args(words)
        .dir(&web)
        .env("SHEAF_CONSOLE", site.address())
        .env("SHEAF_USER", "anna")
        .env("SHEAF_PASSWORD", PASSWORD)
        .env("SHEAF_ORDERS", orders)
        .env("SHEAF_LOSSES", losses.join(" "))
        // Somebody told the browser to trust what it was shown at the first time.
        .env("SHEAF_TRUSTED", site.pin(holder)?.hex())
        .env("SHEAF_SCREENSHOT", picture)
        .deadline(PAGES))
}

/// A page in Chromium, under which nodes are lost.
async fn page_goes_on(certificates: Certificates, losses: &[Loss]) -> Result<()> {
    let mut site = Site::make(certificates).await?;
    site.claim("anna").await?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("orders");
    let artefacts = sheaf_machine::workspace()?.join("target/sheaf/artefacts/console-failover");
    std::fs::create_dir_all(&artefacts)?;
    let orders = UnixListener::bind(&socket)?;
    // A browser that sees links of this machine come and go, as those of other cases do, closes its connections by itself.
    let computer = site.network.computer()?;
    let picture = artefacts.join(format!("{certificates:?}.png"));
    let command = pages(&computer, &site, losses, &socket, &picture)?;
    let run = tokio::task::spawn_blocking(move || System.run(&command));
    let said = tokio::select! {
        said = run => said??.text(),
        failed = obeys(&mut site, &orders) => return failed.with_context(|| site.tails()),
    };
    println!("{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_goes_on_by_itself_when_the_node_that_it_spoke_to_is_lost() -> Result<()> {
    page_goes_on(Certificates::Given, &Loss::ALL).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_does_a_page_where_no_certificate_was_given_and_somebody_trusts_what_the_first_console_showed()
-> Result<()> {
    page_goes_on(Certificates::Own, &[Loss::Power]).await
}

/// Until the cluster counts a node as lost.
async fn is_silent(site: &Site, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(site.admin().await?);
    wait(&format!("{name} counts as lost"), async || {
        let status = nodes.get(name).await?.status.unwrap_or_default();
        let is_unknown = |one: &NodeCondition| one.type_ == "Ready" && one.status == "Unknown";
        Ok(status.conditions.unwrap_or_default().iter().any(is_unknown).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_off_until_it_counted_as_lost_is_of_the_control_plane_again() -> Result<()> {
    let mut site = Site::make(Certificates::Own).await?;
    site.lose(0, Loss::Power)?;
    is_silent(&site, "a").await?;
    site.reconnect()?;
    let begun = Instant::now();
    site.is_whole().await?;
    println!("whole again after {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
