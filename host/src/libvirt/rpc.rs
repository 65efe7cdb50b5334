//! libvirt's own RPC protocol, as much of it as asking a guest's agent needs.
//!
//! Why here: a guest decides when and what its agent answers. libvirt-dbus has a fixed number of threads and no bound on
//! a reply, and libvirt itself waits without end unless it is given a timeout, which libvirt-dbus cannot set. Here each
//! query has a connection of its own to libvirtd, a deadline, and a limit on the reply that is checked before a byte of
//! it is read. Messages are XDR (RFC 4506) behind a length; numbers are those of libvirt's `remote_protocol.x` and
//! `virnetprotocol.x`, which never change. Route in: a UUID. Route out: [`Interface`]s, at most [`MOST_ADDRESSES`] each;
//! what the agent reports of its system, as named [`Parameter`]s; file systems frozen and thawed; SSH keys and passwords set.

use super::guest_info::Parameter;
use super::{Interface, Source};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Seconds that libvirt waits for one reply of a guest's agent. It asks twice: `guest-sync`, then the question.
const AGENT_TIMEOUT: i32 = 5;

/// Longest wait for the whole query: both waits of libvirt and its own work on a busy host.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

/// Seconds that libvirt waits for the agent to freeze or thaw: the guest writes back all that it holds in memory.
const FREEZE_AGENT_TIMEOUT: i32 = 20;

/// Longest wait for a freeze or a thaw: `guest-sync`, the command, and libvirt's own work on a busy host.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(45);

/// Largest reply that is read, in bytes: a guest with 16 interfaces of 16 addresses fills a fifth of it.
pub const MOST_REPLY: usize = 64 << 10;

/// Most addresses that are read of an interface; a guest may claim any number.
pub const MOST_ADDRESSES: usize = 16;

/// Most interfaces that are read of a guest: a VM has at most 16 NICs, and may add virtual ones.
pub const MOST_INTERFACES: usize = 64;

/// `REMOTE_PROGRAM` and its version.
const PROGRAM: (u32, u32) = (0x2000_8086, 1);
/// `REMOTE_PROC_CONNECT_OPEN`
const CONNECT_OPEN: u32 = 1;
/// `REMOTE_PROC_DOMAIN_INTERFACE_ADDRESSES`
const INTERFACE_ADDRESSES: u32 = 353;
/// `REMOTE_PROC_DOMAIN_AGENT_SET_RESPONSE_TIMEOUT`
const AGENT_SET_RESPONSE_TIMEOUT: u32 = 420;
/// `REMOTE_PROC_DOMAIN_FSFREEZE`
const FSFREEZE: u32 = 335;
/// `REMOTE_PROC_DOMAIN_FSTHAW`
const FSTHAW: u32 = 336;
/// `REMOTE_PROC_DOMAIN_SET_USER_PASSWORD`
const SET_USER_PASSWORD: u32 = 357;
/// `REMOTE_PROC_DOMAIN_AUTHORIZED_SSH_KEYS_SET`
const AUTHORIZED_SSH_KEYS_SET: u32 = 425;
/// `REMOTE_PROC_DOMAIN_GET_GUEST_INFO`
const GET_GUEST_INFO: u32 = 418;
/// Length of a message's length and header, in bytes.
const HEADER: usize = 28;

/// A query that got no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// libvirtd cannot be reached, or closed the connection.
    #[error("libvirtd's socket {path}")]
    Socket {
        /// The socket.
        path: String,
        /// What failed.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The reply is larger than anything a guest has reason to say.
    #[error("a reply of {0} bytes was refused; {MOST_REPLY} are the limit")]
    TooLarge(usize),
    /// libvirt answered with an error; its message.
    #[error("{0}")]
    Refused(String),
    /// The reply is not what the protocol says.
    #[error("malformed reply of libvirtd")]
    Malformed,
}

/// Addresses of the interfaces of domain `uuid` as `source` knows them, from the libvirtd that listens at `socket`.
pub async fn interfaces(socket: &Path, uuid: &str, source: Source) -> Result<Vec<Interface>, QueryError> {
    interfaces_within(QUERY_TIMEOUT, socket, uuid, source).await
}

async fn interfaces_within(
    time: Duration,
    socket: &Path,
    uuid: &str,
    source: Source,
) -> Result<Vec<Interface>, QueryError> {
    tokio::time::timeout(time, query(socket, uuid, source)).await.unwrap_or(Err(QueryError::TimedOut(time)))
}

async fn query(socket: &Path, uuid: &str, source: Source) -> Result<Vec<Interface>, QueryError> {
    let agent_timeout = (source == Source::Agent).then_some(AGENT_TIMEOUT);
    let mut arguments = Vec::new();
    put_u32(&mut arguments, source.number());
    put_u32(&mut arguments, 0);
    let reply = ask(socket, uuid, agent_timeout, INTERFACE_ADDRESSES, &arguments).await?;
    read_interfaces(&reply).ok_or(QueryError::Malformed)
}

/// Has the agent hold the writes of all file systems; their number.
pub async fn freeze(socket: &Path, uuid: &str) -> Result<u32, QueryError> {
    file_systems(socket, uuid, FSFREEZE).await
}

/// Has the agent let writes go on; the number of file systems that were held.
pub async fn thaw(socket: &Path, uuid: &str) -> Result<u32, QueryError> {
    file_systems(socket, uuid, FSTHAW).await
}

async fn file_systems(socket: &Path, uuid: &str, procedure: u32) -> Result<u32, QueryError> {
    let mut arguments = Vec::new();
    put_u32(&mut arguments, 0); // no mount points: all
    put_u32(&mut arguments, 0); // flags
    let asked = ask(socket, uuid, Some(FREEZE_AGENT_TIMEOUT), procedure, &arguments);
    let reply = tokio::time::timeout(FREEZE_TIMEOUT, asked).await;
    let reply = reply.unwrap_or(Err(QueryError::TimedOut(FREEZE_TIMEOUT)))?;
    take_u32(&mut reply.as_slice()).ok_or(QueryError::Malformed)
}

/// Has the agent replace the authorized SSH keys of `user`.
pub async fn set_authorized_keys(
    socket: &Path,
    uuid: &str,
    user: &str,
    keys: &[String],
) -> Result<(), QueryError> {
    let mut arguments = Vec::new();
    put_bytes(&mut arguments, user.as_bytes());
    put_u32(&mut arguments, keys.len() as u32);
    keys.iter().for_each(|key| put_bytes(&mut arguments, key.as_bytes()));
    put_u32(&mut arguments, 0); // flags: those that are there are replaced
    set(socket, uuid, AUTHORIZED_SSH_KEYS_SET, &arguments).await
}

/// Has the agent set the password of `user`.
pub async fn set_password(socket: &Path, uuid: &str, user: &str, password: &str) -> Result<(), QueryError> {
    let mut arguments = Vec::new();
    for text in [user, password] {
        put_u32(&mut arguments, 1); // it follows
        put_bytes(&mut arguments, text.as_bytes());
    }
    put_u32(&mut arguments, 0); // flags: it is not encrypted
    set(socket, uuid, SET_USER_PASSWORD, &arguments).await
}

async fn set(socket: &Path, uuid: &str, procedure: u32, arguments: &[u8]) -> Result<(), QueryError> {
    let asked = ask(socket, uuid, Some(AGENT_TIMEOUT), procedure, arguments);
    let reply = tokio::time::timeout(QUERY_TIMEOUT, asked).await;
    reply.unwrap_or(Err(QueryError::TimedOut(QUERY_TIMEOUT))).map(drop)
}

/// What the agent reports of its system: host name, operating system, time zone, users, file systems.
pub async fn guest_info(socket: &Path, uuid: &str) -> Result<Vec<Parameter>, QueryError> {
    let mut arguments = Vec::new();
    put_u32(&mut arguments, 0); // types: all that the agent knows
    put_u32(&mut arguments, 0); // flags
    let asked = ask(socket, uuid, Some(AGENT_TIMEOUT), GET_GUEST_INFO, &arguments);
    let reply = tokio::time::timeout(QUERY_TIMEOUT, asked).await;
    let reply = reply.unwrap_or(Err(QueryError::TimedOut(QUERY_TIMEOUT)))?;
    super::guest_info::read_parameters(&reply).ok_or(QueryError::Malformed)
}

/// One question about domain `uuid` on a connection of its own; `agent_timeout` in seconds when a guest's agent is to
/// answer it. `arguments` follow the domain.
async fn ask(
    socket: &Path,
    uuid: &str,
    agent_timeout: Option<i32>,
    procedure: u32,
    arguments: &[u8],
) -> Result<Vec<u8>, QueryError> {
    let at = |source| QueryError::Socket { path: socket.display().to_string(), source };
    let uuid = uuid_bytes(uuid).ok_or_else(|| QueryError::Refused(format!("{uuid:?} is not a UUID")))?;
    let mut connection = Connection { stream: UnixStream::connect(socket).await.map_err(at)?, serial: 0 };
    let mut open = Vec::new();
    put_u32(&mut open, 1); // a name follows
    put_bytes(&mut open, b"qemu:///system");
    put_u32(&mut open, 0); // flags
    connection.call(CONNECT_OPEN, &open).await.map_err(|error| error.at(socket))?;
    // libvirt finds a domain by its UUID; name and number go with it unread.
    let mut domain = Vec::new();
    put_bytes(&mut domain, b"");
    domain.extend(uuid);
    put_u32(&mut domain, 0);
    if let Some(seconds) = agent_timeout {
        // Each time: a domain may have been started by an earlier agent, and another question may have set another.
        let mut timeout = domain.clone();
        put_u32(&mut timeout, seconds.cast_unsigned());
        put_u32(&mut timeout, 0);
        connection.call(AGENT_SET_RESPONSE_TIMEOUT, &timeout).await.map_err(|error| error.at(socket))?;
    }
    domain.extend(arguments);
    connection.call(procedure, &domain).await.map_err(|error| error.at(socket))
}

struct Connection {
    stream: UnixStream,
    serial: u32,
}

enum CallError {
    Io(io::Error),
    Query(QueryError),
}

impl CallError {
    fn at(self, socket: &Path) -> QueryError {
        match self {
            Self::Io(source) => QueryError::Socket { path: socket.display().to_string(), source },
            Self::Query(error) => error,
        }
    }
}

impl Connection {
    /// Sends one call and returns the payload of its reply.
    async fn call(&mut self, procedure: u32, arguments: &[u8]) -> Result<Vec<u8>, CallError> {
        self.serial += 1;
        let mut message = Vec::with_capacity(HEADER + arguments.len());
        put_u32(&mut message, (HEADER + arguments.len()) as u32);
        // program, version, procedure, type call, serial, status ok
        for word in [PROGRAM.0, PROGRAM.1, procedure, 0, self.serial, 0] {
            put_u32(&mut message, word);
        }
        message.extend(arguments);
        self.stream.write_all(&message).await.map_err(CallError::Io)?;
        let length = self.stream.read_u32().await.map_err(CallError::Io)? as usize;
        let body = length.checked_sub(4).ok_or(CallError::Query(QueryError::Malformed))?;
        if body > MOST_REPLY {
            return Err(CallError::Query(QueryError::TooLarge(body)));
        }
        let mut reply = vec![0; body];
        self.stream.read_exact(&mut reply).await.map_err(CallError::Io)?;
        let answer = read_reply(&reply, procedure, self.serial).unwrap_or(Err(QueryError::Malformed));
        answer.map(<[u8]>::to_vec).map_err(CallError::Query)
    }
}

/// The payload of `reply`, which must answer call number `serial`; `None` when it is malformed.
fn read_reply(reply: &[u8], procedure: u32, serial: u32) -> Option<Result<&[u8], QueryError>> {
    let mut rest = reply;
    let mut word = || take_u32(&mut rest);
    let header = [word()?, word()?, word()?, word()?, word()?];
    let status = word()?;
    // type 1 is a reply
    if header != [PROGRAM.0, PROGRAM.1, procedure, 1, serial] {
        return None;
    }
    match status {
        0 => Some(Ok(rest)),
        // remote_error: code, domain, optional message, …
        _ => {
            take_u32(&mut rest)?;
            take_u32(&mut rest)?;
            let message = take_optional(&mut rest)?.unwrap_or_default();
            Some(Err(QueryError::Refused(String::from_utf8_lossy(message).into_owned())))
        }
    }
}

/// `remote_domain_interface_addresses_ret`; `None` when it is malformed. Linear in its length.
pub fn read_interfaces(mut payload: &[u8]) -> Option<Vec<Interface>> {
    let rest = &mut payload;
    let mut interfaces = Vec::new();
    for _ in 0..take_u32(rest)? {
        let _name = take_bytes(rest)?;
        let mac = take_optional(rest)?.unwrap_or_default();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for _ in 0..take_u32(rest)? {
            let (_family, address, _prefix) = (take_u32(rest)?, take_bytes(rest)?, take_u32(rest)?);
            let address: Option<IpAddr> =
                std::str::from_utf8(address).ok().and_then(|text| text.parse().ok());
            addresses.extend(address.filter(|_| addresses.len() < MOST_ADDRESSES));
        }
        if interfaces.len() < MOST_INTERFACES {
            let mac = String::from_utf8_lossy(mac).to_ascii_lowercase();
            interfaces.push(Interface { mac, addresses });
        }
    }
    Some(interfaces)
}

pub(super) fn put_u32(message: &mut Vec<u8>, word: u32) {
    message.extend(word.to_be_bytes());
}

/// A string or opaque of variable length: its length, its bytes, zeros up to a multiple of 4.
pub(super) fn put_bytes(message: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(message, bytes.len() as u32);
    message.extend(bytes);
    message.resize(message.len().next_multiple_of(4), 0);
}

pub(super) fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (word, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*word))
}

pub(super) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_u32(rest)? as usize;
    let bytes = rest.get(..length)?;
    *rest = rest.get(length.next_multiple_of(4)..)?;
    Some(bytes)
}

fn take_optional<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_u32(rest)? {
        0 => Some(None),
        _ => take_bytes(rest).map(Some),
    }
}

fn uuid_bytes(uuid: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = uuid
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    const UUID: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";

    fn reply(procedure: u32, serial: u32, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        put_u32(&mut message, (HEADER + payload.len()) as u32);
        for word in [PROGRAM.0, PROGRAM.1, procedure, 1, serial, 0] {
            put_u32(&mut message, word);
        }
        message.extend(payload);
        message
    }

    fn said(interfaces: &[(&str, usize)]) -> Vec<u8> {
        let mut payload = Vec::new();
        put_u32(&mut payload, interfaces.len() as u32);
        for (mac, addresses) in interfaces {
            put_bytes(&mut payload, b"eth0");
            put_u32(&mut payload, 1);
            put_bytes(&mut payload, mac.as_bytes());
            put_u32(&mut payload, *addresses as u32);
            for n in 0..*addresses {
                put_u32(&mut payload, 0);
                put_bytes(&mut payload, format!("192.0.2.{}", n % 250 + 1).as_bytes());
                put_u32(&mut payload, 24);
            }
        }
        payload
    }

    /// A libvirtd that answers each call by `answer(procedure, serial)`; `None` is silence.
    fn libvirtd(
        name: &str,
        answer: impl Fn(u32, u32) -> Option<Vec<u8>> + Send + 'static,
    ) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("sheaf-rpc-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while let Ok(length) = stream.read_u32().await {
                let mut call = vec![0; length as usize - 4];
                stream.read_exact(&mut call).await.unwrap();
                let mut words = &call[8..];
                let procedure = take_u32(&mut words).unwrap();
                let serial = take_u32(&mut &call[16..]).unwrap();
                match answer(procedure, serial) {
                    // It may hang up in the middle.
                    Some(bytes) => drop(stream.write_all(&bytes).await),
                    None => std::future::pending().await,
                }
            }
        });
        path
    }

    #[tokio::test]
    async fn addresses_come_after_the_timeout_was_set_and_no_more_than_sixteen_of_an_interface() {
        let (sender, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let socket = libvirtd("sound", move |procedure, serial| {
            sender.send(procedure).unwrap();
            let payload =
                if procedure == INTERFACE_ADDRESSES { said(&[("02:AA", 200), ("03", 1)]) } else { vec![] };
            Some(reply(procedure, serial, &payload))
        });
        let interfaces = interfaces(&socket, UUID, Source::Agent).await.unwrap();
        assert_eq!((interfaces[0].mac.as_str(), interfaces[0].addresses.len()), ("02:aa", MOST_ADDRESSES));
        assert_eq!(interfaces[1].addresses.len(), 1);
        let mut seen = Vec::new();
        calls.recv_many(&mut seen, 3).await;
        assert_eq!(seen, [CONNECT_OPEN, AGENT_SET_RESPONSE_TIMEOUT, INTERFACE_ADDRESSES]);
    }

    #[tokio::test]
    async fn keys_and_passwords_are_sent_as_the_protocol_has_them() {
        let (sender, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let path = std::env::temp_dir().join(format!("sheaf-rpc-credentials-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                while let Ok(length) = stream.read_u32().await {
                    let mut call = vec![0; length as usize - 4];
                    stream.read_exact(&mut call).await.unwrap();
                    let procedure = take_u32(&mut &call[8..]).unwrap();
                    let serial = take_u32(&mut &call[16..]).unwrap();
                    // After the header: a name of no bytes, a UUID, a number.
                    sender.send((procedure, call[24..].get(24..).map(<[u8]>::to_vec))).unwrap();
                    stream.write_all(&reply(procedure, serial, &[])).await.unwrap();
                }
            }
        });
        set_authorized_keys(&path, UUID, "ann", &["ssh-a".into(), "b".into()]).await.unwrap();
        set_password(&path, UUID, "ann", "pw").await.unwrap();
        let mut seen = Vec::new();
        calls.recv_many(&mut seen, 6).await;
        let keys = b"\0\0\0\x03ann\0\0\0\0\x02\0\0\0\x05ssh-a\0\0\0\0\0\0\x01b\0\0\0\0\0\0\0";
        assert_eq!(seen[2], (AUTHORIZED_SSH_KEYS_SET, Some(keys.to_vec())));
        let password = b"\0\0\0\x01\0\0\0\x03ann\0\0\0\0\x01\0\0\0\x02pw\0\0\0\0\0\0";
        assert_eq!(seen[5], (SET_USER_PASSWORD, Some(password.to_vec())));
    }

    #[tokio::test]
    async fn a_reply_of_ten_megabytes_is_refused_before_it_is_read() {
        let socket = libvirtd("large", |procedure, serial| {
            let payload = if procedure == INTERFACE_ADDRESSES { vec![0; 10 << 20] } else { vec![] };
            Some(reply(procedure, serial, &payload))
        });
        let error = interfaces(&socket, UUID, Source::Agent).await.unwrap_err();
        assert!(matches!(error, QueryError::TooLarge(bytes) if bytes > 10 << 20), "{error:?}");
    }

    #[tokio::test]
    async fn a_libvirtd_that_never_answers_ends_at_the_deadline() {
        let socket = libvirtd("silent", |procedure, serial| {
            (procedure != INTERFACE_ADDRESSES).then(|| reply(procedure, serial, &[]))
        });
        let time = Duration::from_millis(50);
        let error = interfaces_within(time, &socket, UUID, Source::Agent).await.unwrap_err();
        assert!(matches!(error, QueryError::TimedOut(_)), "{error:?}");
    }

    #[test]
    fn an_error_carries_libvirts_own_words() {
        let mut payload = Vec::new();
        for word in [86, 10, 1] {
            put_u32(&mut payload, word);
        }
        put_bytes(&mut payload, b"Guest agent is not responding");
        let mut message = reply(353, 3, &payload)[4..].to_vec();
        message[23] = 1;
        let error = read_reply(&message, 353, 3).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "Guest agent is not responding");
    }

    #[test]
    fn a_uuid_is_sixteen_bytes_and_nothing_else_is_one() {
        assert_eq!(uuid_bytes(UUID).unwrap()[..4], [0x0b, 0x0e, 0x6d, 0x2c]);
        assert_eq!((uuid_bytes("x"), uuid_bytes(""), uuid_bytes(&UUID[1..])), (None, None, None));
    }

    #[test]
    fn a_count_that_promises_more_than_there_is_is_malformed_and_takes_no_memory() {
        assert_eq!(read_interfaces(&u32::MAX.to_be_bytes()), None);
        let whole = said(&[("02:aa", 3), ("02:bb", 2)]);
        assert_eq!(read_interfaces(&whole).unwrap().len(), 2);
        for length in 0..whole.len() {
            assert_eq!(read_interfaces(&whole[..length]), None, "{length}");
        }
    }

    mod fuzz {
        use super::*;

        #[test]
        fn a_reply_is_of_its_call_or_none() {
            sheaf_fuzz::fuzz("replies of libvirtd", |random| {
                let (status, serial) = (u32::from(random.once_in(3)), 7);
                let mut message = Vec::new();
                for word in [PROGRAM.0, PROGRAM.1, INTERFACE_ADDRESSES, 1, serial, status] {
                    put_u32(&mut message, word);
                }
                if status == 0 {
                    message.extend(said(&[("02:00:00:00:00:01", random.below(40)), ("", 1)]));
                } else {
                    [86, 10, 1].into_iter().for_each(|word| put_u32(&mut message, word));
                    put_bytes(&mut message, b"Guest agent is not responding");
                }
                if !random.once_in(4) {
                    random.change(&mut message, &[]);
                }
                match read_reply(&message, INTERFACE_ADDRESSES, serial) {
                    Some(Ok(payload)) => read_interfaces(payload).is_some_and(|found| {
                        assert!(found.len() <= MOST_INTERFACES);
                        assert!(found.iter().all(|interface| interface.addresses.len() <= MOST_ADDRESSES));
                        true
                    }),
                    Some(Err(error)) => !error.to_string().is_empty(),
                    None => false,
                }
            });
        }
    }
}
