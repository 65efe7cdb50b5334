//! Does what a request asks: reads the objects, has [`super::life`] and [`permit`] decide, writes or asks the node.
//!
//! Route in: a route and a body. Route out: KubeVirt's status codes: 202 for what the VM controller does later, 200 for what
//! the node has done.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use sheaf_api::{VirtualMachine, VirtualMachineInstance};
use sheaf_https::Received;

use super::{
    answer::{self, Answer, Refusal, VM, VMI},
    life::{self, Change, What},
    node::Target,
    options::{self, is_dry},
    routes::{Holder, Place, Stream, VmAct, VmiAct},
    serve::State,
};
use crate::{instancetype, placeholder, vm::requests};

mod permit;
mod volumes;

/// Most of a node's answer that is read, in bytes.
const MOST_ANSWER: usize = 1 << 20;
/// The same for a picture: a large screen that packs badly.
const MOST_PICTURE: usize = 32 << 20;
/// Seconds after which a guest is thawed when nobody said: KubeVirt's default.
const THAW_AFTER: u64 = 300;

async fn vm(state: &State, place: &Place) -> Result<VirtualMachine, Refusal> {
    let machines: Api<VirtualMachine> = Api::namespaced(state.client.clone(), &place.namespace);
    let found = machines.get_opt(&place.name).await.map_err(Refusal::of_api)?;
    found.ok_or_else(|| Refusal::not_found(VM, &place.name))
}

async fn vmi(state: &State, place: &Place) -> Result<Option<VirtualMachineInstance>, Refusal> {
    let instances: Api<VirtualMachineInstance> = Api::namespaced(state.client.clone(), &place.namespace);
    instances.get_opt(&place.name).await.map_err(Refusal::of_api)
}

/// The VM at `place` with its instancetype and preference put in.
pub async fn expand(state: &State, place: &Place) -> Result<Answer, Refusal> {
    expanded(state, &vm(state, place).await?).await
}

/// `vm` with its instancetype and preference put in.
pub async fn expanded(state: &State, vm: &VirtualMachine) -> Result<Answer, Refusal> {
    let sized = instancetype::expand(&state.client, vm).await.map_err(Refusal::internal)?;
    let shown = instancetype::shown(&sized).map_err(Refusal::bad_request)?;
    Ok(answer::ok(&serde_json::to_value(shown).map_err(Refusal::internal)?))
}

/// start, stop, restart.
pub async fn on_vm(state: &State, place: &Place, act: VmAct, body: &[u8]) -> Result<Answer, Refusal> {
    let vm = vm(state, place).await?;
    let vmi = vmi(state, place).await?;
    let (change, dry) = match act {
        VmAct::Start => {
            let options: options::Start = options::read(body)?;
            (life::start(&vm, vmi.as_ref(), &options)?, is_dry(&options.dry_run))
        }
        VmAct::Stop => {
            let options: options::Stop = options::read(body)?;
            (life::stop(&vm, vmi.as_ref(), &options)?, is_dry(&options.dry_run))
        }
        VmAct::Restart => {
            let options: options::Restart = options::read(body)?;
            (life::restart(&vm, vmi.as_ref(), &options)?, is_dry(&options.dry_run))
        }
        VmAct::ExpandSpec => return expand(state, place).await,
    };
    apply(state, place, &vm, vmi.as_ref(), &change, dry).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}

/// addvolume, removevolume, on a VM or on an instance.
pub async fn on_volumes(
    state: &State,
    place: &Place,
    of: Holder,
    adds: bool,
    body: &[u8],
) -> Result<Answer, Refusal> {
    let request = volumes::read(adds, body)?;
    let how = PatchParams { dry_run: request.dry, ..PatchParams::default() };
    let (kind, patched) = match of {
        Holder::Vm => {
            let patch = requests::patch(volumes::of_vm(&vm(state, place).await?, &request)?);
            let machines: Api<VirtualMachine> = Api::namespaced(state.client.clone(), &place.namespace);
            (VM, machines.patch(&place.name, &how, &Patch::<()>::Json(patch)).await.map(drop))
        }
        Holder::Vmi => {
            let vmi = vmi(state, place).await?.ok_or_else(|| Refusal::not_found(VMI, &place.name))?;
            let patch = requests::patch(volumes::of_vmi(&vmi, &request)?);
            let instances: Api<VirtualMachineInstance> =
                Api::namespaced(state.client.clone(), &place.namespace);
            (VMI, instances.patch(&place.name, &how, &Patch::<()>::Json(patch)).await.map(drop))
        }
    };
    patched.map_err(|error| match error {
        // In the API server's words: virtctl tries again when they say that a test of the patch failed.
        kube::Error::Api(status) if status.code == 422 => {
            Refusal::invalid(kind, &place.name, &status.message)
        }
        kube::Error::Api(status) if status.code == 404 => Refusal::not_found(kind, &place.name),
        error => Refusal::of_api(error),
    })?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}

async fn apply(
    state: &State,
    place: &Place,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    change: &Change,
    dry: bool,
) -> Result<(), Refusal> {
    let machines: Api<VirtualMachine> = Api::namespaced(state.client.clone(), &place.namespace);
    let how = PatchParams { dry_run: dry, ..PatchParams::default() };
    let patched = match &change.what {
        What::Run(running) => {
            let patch = Patch::<()>::Json(requests::run(vm, *running));
            machines.patch(&place.name, &how, &patch).await
        }
        What::Ask(changes) => {
            let patch = Patch::<()>::Json(requests::ask(vm, changes).map_err(Refusal::internal)?);
            machines.patch_status(&place.name, &how, &patch).await
        }
    };
    patched.map_err(|error| match error {
        // A test of the JSON patch failed: somebody changed the VM meanwhile.
        kube::Error::Api(status) if matches!(status.code, 409 | 422) => {
            Refusal::conflict(VM, &place.name, &status.message)
        }
        kube::Error::Api(status) if status.code == 404 => Refusal::not_found(VM, &place.name),
        error => Refusal::of_api(error),
    })?;
    if let (Some(grace), Some(vmi), false) = (change.shorten_grace, vmi, dry) {
        let pods: Api<Pod> = Api::namespaced(state.client.clone(), &place.namespace);
        // Without grace a Pod counts as gone before its node has ended it; 1 is the shortest that is safe.
        let how = DeleteParams::default().grace_period(u32::try_from(grace.max(1)).unwrap_or(u32::MAX));
        match pods.delete(&placeholder::name(vmi), &how).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted.map_err(Refusal::of_api)?),
        }
    }
    Ok(())
}

/// What the node of the instance does.
pub async fn on_vmi(state: &State, place: &Place, act: VmiAct, body: &[u8]) -> Result<Answer, Refusal> {
    let vmi = vmi(state, place).await?.ok_or_else(|| Refusal::not_found(VMI, &place.name))?;
    permit::act(&vmi, act)?;
    let mut path = act.name().to_owned();
    match act {
        VmiAct::Pause | VmiAct::Unpause => {
            let options: options::Pause = options::read(body)?;
            if is_dry(&options.dry_run) {
                return Ok(answer::empty(StatusCode::OK));
            }
        }
        VmiAct::Freeze => {
            let options: options::Freeze = options::read(body)?;
            let seconds = match options.unfreeze_timeout.as_deref() {
                None | Some("0s") => THAW_AFTER,
                Some(text) => options::go_seconds(text).ok_or_else(|| {
                    Refusal::bad_request(format!("unfreezeTimeout {text:?} is no duration; write it as 5m0s"))
                })?,
            };
            path = format!("{path}?seconds={seconds}");
        }
        VmiAct::Screenshot { wake } => path = format!("{path}?moveCursor={wake}"),
        _ => {}
    }
    let target = target(state, &vmi).await?;
    let path = of_instance(&vmi, &path);
    let method = if act.reads() { http::Method::GET } else { http::Method::PUT };
    let response = state.nodes.request(&target, method, &path, None).await.map_err(Refusal::internal)?;
    let status = response.status();
    let most = if matches!(act, VmiAct::Screenshot { .. }) { MOST_PICTURE } else { MOST_ANSWER };
    let body = read(response, most).await?;
    match status {
        status if !status.is_success() => {
            Err(Refusal::of_node(status.as_u16(), &String::from_utf8_lossy(&body)))
        }
        _ if matches!(act, VmiAct::Screenshot { .. }) => Ok(answer::picture(body.into())),
        _ if act.reads() => Ok(answer::raw(body.into())),
        _ => Ok(answer::empty(StatusCode::OK)),
    }
}

/// console, vnc, portforward: hands the upgrade on to the node, and then every byte both ways.
pub async fn stream(
    state: &State,
    place: &Place,
    stream: &Stream,
    mut request: Request<Received>,
) -> Result<Answer, Refusal> {
    let vmi = vmi(state, place).await?.ok_or_else(|| Refusal::not_found(VMI, &place.name))?;
    permit::stream(&vmi, stream)?;
    let path = match stream {
        Stream::Console => "console".to_owned(),
        Stream::Vnc { preserve } => format!("vnc?preserveSession={preserve}"),
        Stream::PortForward { port, udp } => {
            format!("portforward?port={port}&protocol={}", if *udp { "udp" } else { "tcp" })
        }
    };
    let target = target(state, &vmi).await?;
    let path = of_instance(&vmi, &path);
    let upgrade = hyper::upgrade::on(&mut request);
    let mut response = state
        .nodes
        .request(&target, http::Method::GET, &path, Some(request.headers()))
        .await
        .map_err(Refusal::internal)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status().as_u16();
        let body = read(response, MOST_ANSWER).await?;
        return Err(Refusal::of_node(status, &String::from_utf8_lossy(&body)));
    }
    let backend = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let Ok((front, back)) = tokio::try_join!(upgrade, backend) else { return };
        // An end of either side is the end of the other; the node says why in its closing frame.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(front), &mut TokioIo::new(back)).await;
    });
    let mut answer = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
    for name in ["connection", "upgrade", "sec-websocket-accept", "sec-websocket-protocol"] {
        if let Some(value) = response.headers().get(name) {
            answer.headers_mut().insert(http::HeaderName::from_static(name), value.clone());
        }
    }
    Ok(answer)
}

async fn read(response: Response<Incoming>, most: usize) -> Result<Vec<u8>, Refusal> {
    let body = Limited::new(response.into_body(), most).collect().await;
    Ok(body.map_err(|error| Refusal::internal(format!("the node's answer: {error}")))?.to_bytes().to_vec())
}

/// Where an agent has the instance: by its UID, so that a request never reaches a later one of the same name.
fn of_instance(vmi: &VirtualMachineInstance, path: &str) -> String {
    format!("/vms/{}/{path}", vmi.metadata.uid.as_deref().unwrap_or_default())
}

/// Where the instance's node listens.
async fn target(state: &State, vmi: &VirtualMachineInstance) -> Result<Target, Refusal> {
    let name = vmi.status.as_ref().and_then(|status| status.node_name.clone());
    let name = name.ok_or_else(|| Refusal::internal("the VMI has no node"))?;
    let nodes: Api<Node> = Api::all(state.client.clone());
    let node = nodes.get_opt(&name).await.map_err(Refusal::of_api)?;
    let node = Arc::new(node.ok_or_else(|| Refusal::internal(format!("node {name} does not exist")))?);
    Target::of(&node).map_err(Refusal::internal)
}
