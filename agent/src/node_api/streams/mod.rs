//! Connections to a VM: its serial port, its display, a port of its guest.
//!
//! Why here: one way in for all three: WebSocket with KubeVirt's subprotocol, binary frames, raw bytes. What they are
//! connected to is opened before the connection is upgraded, so that a failure is an answer with a reason. Serial port and
//! display have one owner at a time ([`sessions`]). Route in: a VM and a request. Route out: 101, and a task that copies until
//! either side ends.

pub mod channels;
mod forward;
mod pump;
pub mod sessions;
mod spdy;
mod tunnel;
mod websocket;

use super::answer::{self, Answer, Refusal};
use super::routes::Act;
use super::serve::State;
use super::vm::Vm;
use super::{exec, logs, screenshot};
use crate::reconcile::blocking;
use http::{Request, StatusCode};
use pump::End;
use sessions::{Kind, NotTaken, Session};
use sheaf_host::libvirt::VmHost;
use sheaf_https::Received;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// Longest wait for a socket of QEMU: it takes connections at once, unless it hangs.
const OPEN_TIME: Duration = Duration::from_secs(5);
/// Longest wait for the next bytes of a picture.
const PICTURE_TIME: Duration = Duration::from_secs(10);

/// Connects.
pub async fn serve<V: VmHost>(
    state: &Arc<State<V>>,
    vm: Vm,
    act: &Act,
    request: Request<Received>,
) -> Result<Answer, Refusal> {
    let handshake = websocket::Handshake::of(&request, &websocket::PLAIN)?;
    let shutdown = state.ctx.shutdown.clone();
    match act {
        Act::PortForward { port, udp: false } => {
            let stream = forward::tcp(&vm, *port).await?;
            Ok(handshake.accept(request, move |socket| async move {
                let (read, write) = stream.into_split();
                pump::bytes(socket, read, write, None, shutdown).await;
            }))
        }
        Act::PortForward { port, udp: true } => {
            let datagrams = forward::udp(&vm, *port).await?;
            Ok(handshake.accept(request, move |socket| pump::datagrams(socket, datagrams, shutdown)))
        }
        Act::Console => {
            let (session, stream) = console(state, &vm).await?;
            Ok(connect(handshake, request, stream, session, shutdown, vm.name()))
        }
        Act::Vnc { preserve } => {
            let session = take(state, &vm, Kind::Vnc, *preserve).await?;
            let stream = display(state, &vm).await?;
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            let stream = stream.map_err(|error| Refusal::failed(&error))?;
            Ok(connect(handshake, request, stream, session, shutdown, vm.name()))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found\n")),
    }
}

/// A connection to the display of a VM.
async fn display<V: VmHost>(state: &State<V>, vm: &Vm) -> Result<std::os::unix::net::UnixStream, Refusal> {
    let opened = tokio::time::timeout(OPEN_TIME, state.vms.open_graphics(&vm.uuid)).await;
    let late =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "libvirt did not open the display in time");
    opened.map_err(late)?.map_err(|error| Refusal::failed(&error))
}

/// A picture of the display; other viewers are not disturbed.
pub async fn screenshot<V: VmHost>(state: &State<V>, vm: Vm, wake: bool) -> Result<Answer, Refusal> {
    let stream = display(state, &vm).await?;
    let shot = move || {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PICTURE_TIME))?;
        stream.set_write_timeout(Some(PICTURE_TIME))?;
        Ok(screenshot::take(stream, wake)?)
    };
    let file = blocking(shot).await.map_err(|error| {
        let text = format!("{}: no picture of the screen: {error:#}", vm.name());
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok(answer::picture(file))
}

/// The serial port of a VM, once no other session has it.
async fn console<V: VmHost>(state: &State<V>, vm: &Vm) -> Result<(Session, UnixStream), Refusal> {
    let session = take(state, vm, Kind::Console, false).await?;
    let opened = tokio::time::timeout(OPEN_TIME, UnixStream::connect(vm.folder.console_socket())).await;
    let stream = opened.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(|error| {
        let text = format!("the serial console of {} cannot be opened: {error}", vm.name());
        Refusal::new(StatusCode::BAD_REQUEST, text)
    })?;
    Ok((session, stream))
}

/// A request of kubectl for channels; one that is no WebSocket or offers no protocol of ours comes from an older client.
fn channels_of(request: &Request<Received>) -> Result<websocket::Handshake, Refusal> {
    let refused = || Refusal::new(StatusCode::BAD_REQUEST, channels::SPDY);
    let handshake = websocket::Handshake::of(request, &channels::PROTOCOLS).map_err(|_| refused())?;
    handshake.protocol().map(|_| ()).ok_or_else(refused)?;
    Ok(handshake)
}

/// `attach`: with input, the serial port itself; without, what the guest writes to it from now on.
pub async fn attach<V: VmHost>(
    state: &Arc<State<V>>,
    vm: Vm,
    with_input: bool,
    request: Request<Received>,
) -> Result<Answer, Refusal> {
    let handshake = channels_of(&request)?;
    let shutdown = state.ctx.shutdown.clone();
    if !with_input {
        let output = logs::follow(state, vm.folder.console_log()).await?;
        return Ok(handshake.accept(request, move |socket| async move {
            channels::attach(socket, output, tokio::io::sink(), None, shutdown).await;
        }));
    }
    let (session, stream) = console(state, &vm).await?;
    Ok(handshake.accept(request, move |socket| async move {
        let (read, write) = stream.into_split();
        channels::attach(socket, pump::Reading::of(read), write, Some(&session), shutdown).await;
    }))
}

/// `port-forward` of a Pod: any of its guest's ports.
pub async fn port_forward<V: VmHost>(
    state: &Arc<State<V>>,
    vm: Vm,
    request: Request<Received>,
) -> Result<Answer, Refusal> {
    let refused = || Refusal::new(StatusCode::BAD_REQUEST, tunnel::PLAIN_SPDY);
    let handshake = websocket::Handshake::of(&request, &tunnel::PROTOCOLS).map_err(|_| refused())?;
    handshake.protocol().ok_or_else(refused)?;
    let (vm, shutdown) = (Arc::new(vm), state.ctx.shutdown.clone());
    let connect = move |port| {
        let vm = vm.clone();
        async move { forward::tcp(&vm, port).await.map_err(|refusal| refusal.1) }
    };
    Ok(handshake.accept(request, move |socket| tunnel::run(socket, connect, shutdown)))
}

/// `exec` of the one command that there is.
pub async fn exec<V: VmHost>(
    state: &Arc<State<V>>,
    vm: Vm,
    command: Vec<String>,
    request: Request<Received>,
) -> Result<Answer, Refusal> {
    let handshake = channels_of(&request)?;
    let state = state.clone();
    Ok(handshake.accept(request, move |socket| async move {
        let (printed, ended) = exec::run(&state, &vm, &command).await;
        channels::done(socket, &printed, &ended).await;
    }))
}

/// Upgrades, and copies until somebody else takes the session, or either side ends.
fn connect(
    handshake: websocket::Handshake,
    request: Request<Received>,
    stream: UnixStream,
    session: Session,
    shutdown: crate::channels::Shutdown,
    name: String,
) -> Answer {
    handshake.accept(request, move |socket| async move {
        let (read, write) = stream.into_split();
        let kind = session.kind();
        let end = pump::bytes(socket, read, write, Some(&session), shutdown).await;
        if end == End::Displaced {
            tracing::info!(vm = name, ?kind, "somebody else connected; the former session ended");
        }
    })
}

async fn take<V: VmHost>(state: &State<V>, vm: &Vm, kind: Kind, preserve: bool) -> Result<Session, Refusal> {
    let taken = state.sessions.take(&vm.record.vmi_uid, kind, preserve).await;
    taken.map_err(|why| match why {
        NotTaken::InUse => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Active VNC connection. Request denied.")
        }
        NotTaken::Displaced | NotTaken::Stuck => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "another session was opened at the same time, or the former one does not end; try again",
        ),
    })
}

#[cfg(test)]
mod tests;
