//! Connections over WebSockets in memory.

use super::pump::{self, End};
use super::sessions::{Kind, Sessions};
use crate::channels::Shutdown;
use futures::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Both ends of a WebSocket: the node's, the client's.
async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let node = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
    (node, WebSocketStream::from_raw_socket(far, Role::Client, None).await)
}

fn running() -> (tokio::sync::watch::Sender<bool>, Shutdown) {
    Shutdown::channel()
}

#[tokio::test]
async fn bytes_go_both_ways_in_binary_frames_and_the_end_of_the_vm_is_a_normal_close() {
    let (node, mut client) = pair().await;
    let (vm, mut guest) = tokio::io::duplex(1024);
    let (read, write) = tokio::io::split(vm);
    let (_keep, shutdown) = running();
    let copying = tokio::spawn(async move { pump::bytes(node, read, write, None, shutdown).await });
    client.send(Message::Binary("login: root\n".into())).await.unwrap();
    let mut typed = [0; 12];
    guest.read_exact(&mut typed).await.unwrap();
    assert_eq!(&typed, b"login: root\n");
    guest.write_all(b"# ").await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary("# ".into()));
    drop(guest);
    let Some(Ok(Message::Close(Some(frame)))) = client.next().await else { panic!("no closing frame") };
    assert_eq!(u16::from(frame.code), 1000);
    assert_eq!(copying.await.unwrap(), End::Source);
}

#[tokio::test]
async fn a_session_that_somebody_else_took_ends_without_a_closing_frame() {
    let sessions = Arc::new(Sessions::default());
    let first = sessions.take("u", Kind::Console, false).await.unwrap();
    let (node, mut client) = pair().await;
    let (vm, _guest) = tokio::io::duplex(1024);
    let (read, write) = tokio::io::split(vm);
    let (_keep, shutdown) = running();
    let copying = tokio::spawn(async move { pump::bytes(node, read, write, Some(&first), shutdown).await });
    let second = sessions.take("u", Kind::Console, false).await;
    assert!(second.is_ok(), "the former session ended");
    assert_eq!(copying.await.unwrap(), End::Displaced);
    let last = client.next().await;
    assert!(!matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_pinged_and_one_that_does_not_answer_is_let_go() {
    let (node, mut client) = pair().await;
    let (vm, _guest) = tokio::io::duplex(1024);
    let (read, write) = tokio::io::split(vm);
    let (_keep, shutdown) = running();
    let copying = tokio::spawn(async move { pump::bytes(node, read, write, None, shutdown).await });
    for _ in 0..10 {
        // Reading answers the ping.
        assert!(matches!(client.next().await, Some(Ok(Message::Ping(_)))));
        client.flush().await.unwrap();
    }
    assert!(!copying.is_finished());
    // From here on nothing is read: a machine that lost its network.
    assert_eq!(copying.await.unwrap(), End::Peer);
}

#[tokio::test]
async fn when_the_agent_ends_a_client_reads_why() {
    let (node, mut client) = pair().await;
    let (vm, _guest) = tokio::io::duplex(1024);
    let (read, write) = tokio::io::split(vm);
    let (end, shutdown) = running();
    let copying = tokio::spawn(async move { pump::bytes(node, read, write, None, shutdown).await });
    end.send_replace(true);
    let Some(Ok(Message::Close(Some(frame)))) = client.next().await else { panic!("no closing frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1001, "the node's agent is restarted"));
    assert_eq!(copying.await.unwrap(), End::Shutdown);
}
