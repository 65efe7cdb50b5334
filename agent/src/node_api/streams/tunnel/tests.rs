//! A client that speaks as kubectl does, over a WebSocket in memory.

use super::*;
use tokio::io::DuplexStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// SYN_STREAM frames of moby/spdystream 0.5.1: error and data of request 0, port 22; streams 1 and 3.
const ERRORS: &str = "800300010000003d0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc6464c4c0c0c0590489c44c50e2663400000000ffff";
const DATA: &str = "800300010000001800000003000000000000c2aa15540a2512d209000000ffff";

/// A kubectl whose tunnel leads to one guest.
struct Client {
    socket: WebSocketStream<DuplexStream>,
    buffer: BytesMut,
    _end: tokio::sync::watch::Sender<bool>,
}

impl Client {
    async fn to(guest: Result<DuplexStream, String>) -> Self {
        let (near, far) = tokio::io::duplex(64 << 10);
        let node = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let (end, shutdown) = Shutdown::channel();
        let guest = std::sync::Mutex::new(Some(guest));
        let connect = move |port| {
            let guest = guest.lock().unwrap().take().unwrap();
            async move { if port == 22 { guest } else { Err("another port".into()) } }
        };
        tokio::spawn(run(node, connect, shutdown));
        let socket = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        Self { socket, buffer: BytesMut::new(), _end: end }
    }

    async fn send(&mut self, bytes: impl Into<Bytes>) {
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// The next frame, other than a reply.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            match spdy::take(&mut self.buffer).unwrap() {
                Some(Frame::Other) => {}
                Some(frame) => return Some(frame),
                None => match self.socket.next().await?.ok()? {
                    Message::Binary(block) => self.buffer.extend_from_slice(&block),
                    Message::Close(_) => return None,
                    _ => {}
                },
            }
        }
    }

    async fn data(&mut self) -> (u32, Vec<u8>, bool) {
        match self.frame().await {
            Some(Frame::Data { stream, bytes, is_last }) => (stream, bytes.to_vec(), is_last),
            other => panic!("{other:?}"),
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[tokio::test]
async fn a_port_is_forwarded_both_ways_and_ends_when_the_guest_does() {
    let (node, mut guest) = tokio::io::duplex(1024);
    let mut client = Client::to(Ok(node)).await;
    // As kubectl does: it closes its half of the stream for errors at once.
    client.send(hex(ERRORS)).await;
    client.send(spdy::data(1, b"", true)).await;
    client.send(hex(DATA)).await;
    client.send(spdy::data(3, b"hello", false)).await;
    let mut read = [0; 5];
    guest.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello");
    guest.write_all(b"SSH-2.0").await.unwrap();
    assert_eq!(client.data().await, (3, b"SSH-2.0".to_vec(), false));
    client.send(spdy::pong(5)).await;
    assert_eq!(client.frame().await, Some(Frame::Ping { id: 5 }));
    // The client ends its half; the guest answers, and ends too.
    client.send(spdy::data(3, b"", true)).await;
    assert_eq!(guest.read(&mut read).await.unwrap(), 0);
    guest.write_all(b"bye").await.unwrap();
    drop(guest);
    assert_eq!(client.data().await, (3, b"bye".to_vec(), false));
    assert_eq!(client.data().await, (3, Vec::new(), true));
    assert_eq!(client.data().await, (1, Vec::new(), true));
}

#[tokio::test]
async fn a_port_that_cannot_be_reached_is_said_on_the_stream_for_errors() {
    let mut client = Client::to(Err("dialing shop/web at 100.127.240.5:22: refused".into())).await;
    client.send([hex(ERRORS), hex(DATA)].concat()).await;
    assert_eq!(client.data().await, (3, Vec::new(), true));
    let (stream, why, is_last) = client.data().await;
    assert_eq!((stream, is_last), (1, true));
    assert_eq!(String::from_utf8(why).unwrap(), "dialing shop/web at 100.127.240.5:22: refused");
}

#[tokio::test]
async fn a_connection_that_is_over_does_not_hold_up_what_its_client_still_sends() {
    let (node, guest) = tokio::io::duplex(1024);
    drop(guest);
    let mut client = Client::to(Ok(node)).await;
    client.send([hex(ERRORS), hex(DATA)].concat()).await;
    for _ in 0..100 {
        client.send(spdy::data(3, &[0; 1024], false)).await;
    }
    assert_eq!(client.data().await, (3, Vec::new(), true));
    assert_eq!(client.data().await, (1, Vec::new(), true));
    client.send(spdy::pong(9)).await;
    assert_eq!(client.frame().await, Some(Frame::Ping { id: 9 }));
}

#[tokio::test]
async fn a_block_of_headers_that_does_not_continue_the_last_one_ends_the_tunnel() {
    let (node, _guest) = tokio::io::duplex(1024);
    let mut client = Client::to(Ok(node)).await;
    client.send(hex(ERRORS)).await;
    // The same block again does not inflate: the stream of blocks is one for the whole connection.
    client.send(hex(ERRORS)).await;
    assert_eq!(client.frame().await, None);
}
