//! Finds out that a server is the API server of the cluster that was meant.
//!
//! Why here: before this nothing a server says is believed. Route in: server, token, CA pin. Route out: the cluster
//! CA. cluster-info is fetched unverified, its signature checked with the token, its CA with the pin, and fetched
//! again with TLS verified by that CA: both must be the same bytes.

use super::failure::{Failure, Remedy};
use super::kubeconfig::{self, Credentials};
use super::report::Reporter;
use super::token::Token;
use anyhow::{anyhow, bail};
use http_body_util::{BodyExt as _, Limited};
use sheaf_config::cluster_info::{self, ClusterInfo, InfoError};
use sheaf_config::pin::CaPin;
use std::time::Duration;
use tokio::time::Instant;

/// How long the signature of an operator's token may be missing: a cluster signs within seconds of its creation.
pub const SIGNATURE_TIME: Duration = Duration::from_secs(10);

/// The same of the first node's own token: a controller manager that has just been started, on a slow machine, signs when
/// it leads and has read everything.
pub const FIRST_SIGNATURE_TIME: Duration = Duration::from_secs(180);

/// Longest time for one answer, its body included.
const FETCH_TIME: Duration = Duration::from_secs(20);

/// Between two requests for cluster-info while the signature is missing.
const INTERVAL: Duration = Duration::from_secs(1);

/// The cluster's CA as PEM, if `server` is the one that was meant. Its signature may be missing for `signature_time`.
pub async fn cluster_ca(
    server: &str,
    token: &Token,
    pin: Option<CaPin>,
    signature_time: Duration,
    report: &Reporter,
) -> Result<String, Failure> {
    let fetching = "fetching cluster-info";
    let unreachable = format!(
        "check `server` in node.toml, the cable, the address and the gateway; {server} must answer from this network"
    );
    report.step(fetching);
    let anonymous =
        kubeconfig::client(server, None, Credentials::Anonymous).await.remedy(fetching, &unreachable)?;
    let deadline = Instant::now() + signature_time;
    let info = loop {
        let info = fetch(&anonymous).await.remedy(fetching, &unreachable)?;
        if info.is_signed_for(&token.id) || Instant::now() > deadline {
            break info;
        }
        report.step("waiting until cluster-info is signed for this token");
        tokio::time::sleep(INTERVAL).await;
    };

    let step = "checking the signature of cluster-info";
    report.step(step);
    info.verify(&token.id, token.secret()).map_err(|error| {
        let remedy = match error {
            InfoError::NotSigned(_) => {
                "the cluster does not know this token, or it was used or has expired: make one with `sheaf-agent token create`"
            }
            _ => "the second half of the token is wrong, or another server answers in the cluster's place: compare the token",
        };
        Failure::new(step, error, remedy)
    })?;

    let step = "comparing the cluster's CA with ca-hash";
    report.step(step);
    let ca = info.ca().remedy(step, "the cluster's cluster-info is damaged: look at it with kubectl")?;
    let found = CaPin::of_certificate(&ca)
        .remedy(step, "the cluster's cluster-info is damaged: look at it with kubectl")?;
    if let Some(pin) = pin.filter(|pin| *pin != found) {
        return Err(Failure::new(
            step,
            anyhow!("node.toml says {pin}, the cluster's is {found}"),
            "if that cluster is the right one, write its hash (`sheaf-agent status` there shows it) as ca-hash",
        ));
    }

    let step = "fetching cluster-info again, over verified TLS";
    report.step(step);
    let remedy = "`server` must be a name or address in the API server's certificate (`sans` of the first node), \
                  and this node's clock must be right";
    let verified =
        kubeconfig::client(server, Some(&ca), Credentials::Anonymous).await.remedy(step, remedy)?;
    let again = fetch(&verified).await.remedy(step, remedy)?;
    if again.kubeconfig != info.kubeconfig {
        return Err(Failure::new(
            step,
            anyhow!("possible man-in-the-middle: cluster-info changed between two reads"),
            "it is tried again; if this persists, check what answers in the API server's place (proxy, load balancer, ARP)",
        ));
    }
    Ok(ca)
}

/// Asks for cluster-info, within [`FETCH_TIME`]; of the answer at most 1 MiB is read, since the server is not yet known.
async fn fetch(client: &kube::Client) -> anyhow::Result<ClusterInfo> {
    let request = http::Request::get(cluster_info::PATH).body(kube::client::Body::empty())?;
    let answer = async {
        let answer = client.send(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), cluster_info::BODY_LIMIT).collect().await;
        let body = body.map_err(|error| anyhow!("reading the answer: {error}"))?.to_bytes();
        if !status.is_success() {
            bail!("the server answered with HTTP status {status}");
        }
        Ok(ClusterInfo::parse(&body)?)
    };
    tokio::time::timeout(FETCH_TIME, answer)
        .await
        .map_err(|_| anyhow!("no complete answer within {} s", FETCH_TIME.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server that answers every request with an endless body, and counts what it could send.
    async fn endless() -> (String, tokio::task::JoinHandle<usize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let sent = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await.unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n").await.unwrap();
            let mut sent = 0;
            while connection.write_all(&[b'x'; 65536]).await.is_ok() {
                sent += 65536;
                if sent > 64 << 20 {
                    break;
                }
            }
            sent
        });
        (server, sent)
    }

    #[tokio::test]
    async fn of_a_server_that_is_not_yet_known_at_most_a_mebibyte_is_read() {
        let (server, sent) = endless().await;
        let client = kubeconfig::client(&server, None, Credentials::Anonymous).await.unwrap();
        let error = fetch(&client).await.unwrap_err();
        assert!(format!("{error:#}").contains("length limit exceeded"), "{error:#}");
        drop(client);
        // The rest that was sent lies in buffers of the connection.
        let sent = tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap().unwrap();
        assert!(sent < 32 << 20, "{sent} bytes were read");
    }
}
