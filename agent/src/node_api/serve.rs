//! Answers one request.
//!
//! Why here: the order of the checks is one page: who, may he, what. Only then is anything read. Route in: a request with the
//! peer's certificate. Route out: an answer.

use super::answer::{self, Answer, Refusal};
use super::authenticate::Authenticator;
use super::authorize::{Authorizer, attributes};
use super::routes::{Act, Route};
use super::streams::sessions::Sessions;
use super::{Hosts, acts, exports, guest, logs, metrics, node_logs, states, streams, upload, vm};
use crate::api_server::Kube;
use crate::channels::Context;
use crate::listed::Listed;
use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use sheaf_host::libvirt::VmHost;
use sheaf_host::piped::Pipe;
use sheaf_https::Received;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What requests are answered with.
pub struct State<V> {
    /// Everything that the agent knows.
    pub ctx: Context,
    /// The API server, for reviews.
    pub kube: Kube,
    /// Domains.
    pub vms: Arc<V>,
    /// Pods of this node, by UID.
    pub pods: Arc<watch::Sender<Listed<Pod>>>,
    /// Consoles and displays that are connected.
    pub sessions: Sessions,
    /// Programs that tell of this machine.
    pub run: Arc<dyn Pipe>,
    /// Who reads the journal or a support bundle.
    pub readers: node_logs::Places,
    /// Downloads of volumes that may still begin.
    pub downloads: sheaf_https::Places<String>,
    authenticator: Authenticator,
    authorizer: Authorizer,
}

impl<V: VmHost> State<V> {
    /// Without any session.
    pub fn new(ctx: Context, kube: Kube, hosts: Hosts<V>) -> Self {
        let Hosts { vms, pods, run, port: _ } = hosts;
        Self {
            ctx,
            kube,
            vms,
            pods,
            sessions: Sessions::default(),
            run,
            readers: node_logs::places(),
            downloads: exports::places(),
            authenticator: Authenticator::default(),
            authorizer: Authorizer::default(),
        }
    }

    /// The folder of VMs' folders.
    pub fn vms_dir(&self) -> PathBuf {
        self.ctx.paths.data.join("vms")
    }
}

/// Answers.
pub async fn serve<V: VmHost>(
    state: Arc<State<V>>,
    certificate: Option<Arc<[u8]>>,
    request: Request<Received>,
) -> Result<Answer, Infallible> {
    Ok(answer(&state, certificate.as_deref(), request).await.unwrap_or_else(Refusal::answer))
}

async fn answer<V: VmHost>(
    state: &Arc<State<V>>,
    certificate: Option<&[u8]>,
    request: Request<Received>,
) -> Result<Answer, Refusal> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let user = state.authenticator.user(&state.kube, certificate, request.headers()).await?;
    let wanted = attributes(&method, &path, Route::is_stream(&path)).ok_or_else(|| {
        Refusal::new(StatusCode::FORBIDDEN, "Authorization error: could not determine attributes for request")
    })?;
    let node = state.kube.joined().map(|joined| joined.node);
    let node = node.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    state.authorizer.allow(&state.kube, &node, &user, &wanted).await?;
    let query = request.uri().query().unwrap_or_default();
    let route = Route::of(&method, &path, query)
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "404 page not found\n"))?;
    match route {
        Route::Healthz => Ok(answer::text(StatusCode::OK, "ok")),
        Route::Pods => Ok(pods(state)),
        Route::NotOffered(why) => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, why)),
        Route::Attach { container, with_input } => {
            let vm = vm::of_container(state, &container).await?;
            tracing::info!(user = user.name, vm = vm.name(), with_input, "attach");
            streams::attach(state, vm, with_input, request).await
        }
        Route::PortForward { namespace, pod } => {
            let vm = vm::of_pod(state, &namespace, &pod).await?;
            tracing::info!(user = user.name, vm = vm.name(), "port-forward");
            streams::port_forward(state, vm, request).await
        }
        Route::Exec(container, command) => {
            let vm = vm::of_container(state, &container).await?;
            tracing::info!(user = user.name, vm = vm.name(), ?command, "exec");
            streams::exec(state, vm, command, request).await
        }
        Route::Upload(volume) => {
            tracing::info!(user = user.name, volume, "upload");
            upload::serve(state, &volume, request).await
        }
        Route::NodeLogs(file, query) => {
            tracing::info!(user = user.name, file, query, "logs of this node");
            node_logs::serve(state, &user.name, &file, &query).await
        }
        Route::Logs(container, query) => logs::serve(state, &container, &query).await,
        Route::Metrics => Ok(answer::metrics(metrics::all(state, &node).await)),
        Route::MetricsResource => Ok(answer::metrics(metrics::resource(state).await)),
        Route::ExportToken(pod) => {
            exports::find(state, &pod, request.headers()).await.map(|_| answer::done())
        }
        Route::ExportedBytes(pod, part) => {
            let export = exports::find(state, &pod, request.headers()).await?;
            tracing::info!(user = user.name, pod = export.name(), ?part, "export");
            exports::serve(state, &export, part).await
        }
        Route::State { namespace, snapshot, act } => {
            tracing::info!(user = user.name, namespace, snapshot, ?act, "state of firmware and TPM");
            states::apply(state, &namespace, &snapshot, act).await
        }
        Route::Vm(uid, act) => {
            let vm = vm::find(state, &uid).await?;
            match act {
                act if act.is_stream() => streams::serve(state, vm, &act, request).await,
                Act::GuestOsInfo | Act::UserList | Act::FilesystemList => {
                    guest::serve(state, &vm, &act).await
                }
                Act::Screenshot { wake } => streams::screenshot(state, vm, wake).await,
                act => {
                    tracing::info!(user = user.name, vm = vm.name(), ?act, "asked");
                    acts::apply(state, &vm, &act).await
                }
            }
        }
    }
}

/// Pods of this node, as the API server has them.
fn pods<V: VmHost>(state: &State<V>) -> Answer {
    let listed = state.pods.borrow();
    let items: Vec<&Pod> = listed.objects.values().map(|pod| &**pod).collect();
    answer::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}
