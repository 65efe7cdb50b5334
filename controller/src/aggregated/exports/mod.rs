//! Hands out exports: volumes from the nodes that have them, and manifests.
//!
//! Why here: KubeVirt's clients follow the links of an export with its token and nothing else, so these paths are answered
//! without a user. This server reads no token: the node that has the volume compares it (docs/decisions/0030), also where only a
//! manifest is asked for. What an export hands out is what its exporter Pods say, so a paused one hands out nothing. Bytes are
//! relayed as fast as they are taken; a body that breaks off cuts the connection. Route in: GET or HEAD of a link. Route out:
//! an answer.

mod manifests;
mod route;

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE},
};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::ListParams};
use sheaf_api::{
    names::{EXPORT_ANNOTATION, EXPORT_LABEL, RUNTIME_CLASS},
    vm_export::{ExportedVolume, ExportedVolumes, TOKEN_HEADER, VirtualMachineExport},
};
use sheaf_https::Received;

use super::{
    answer::{Answer, Refusal},
    node::Target,
    serve::{Body, State, known},
};
use crate::volumes::annotation;
use route::{Asked, Span, What};

pub use route::is_ours;

/// Most of a node's refusal that is read, in bytes.
const MOST_REFUSAL: usize = 4096;

/// An exporter Pod.
struct Exporter {
    uid: String,
    node: String,
    volumes: Vec<ExportedVolume>,
}

/// Answers.
pub async fn serve(state: &State, request: &Request<Received>) -> Result<Response<Body>, Refusal> {
    let is_head = request.method() == Method::HEAD;
    if !is_head && request.method() != Method::GET {
        return Err(Refusal::bad_request("only GET and HEAD are answered here"));
    }
    let token = request.headers().get(TOKEN_HEADER).cloned().ok_or_else(Refusal::unauthorized)?;
    let missing = || not_found("the server could not find the requested resource");
    let Asked { namespace, name, what } = route::asked(request.uri().path()).ok_or_else(missing)?;
    let exports: Api<VirtualMachineExport> = Api::namespaced(state.client.clone(), &namespace);
    let export = exports.get_opt(&name).await.map_err(Refusal::of_api)?.ok_or_else(missing)?;
    let exporters = exporters(state, &namespace, &export).await?;
    // No more than that: without one of them no token can be compared.
    let unready = || not_found("the export is not ready; its condition Ready says why");
    let first = exporters.first().ok_or_else(unready)?;
    match what {
        What::Volume { name, packed } => {
            let find = |exporter: &Exporter| {
                let volume = exporter.volumes.iter().find(|volume| volume.name == name)?.clone();
                Some((exporter.uid.clone(), exporter.node.clone(), volume))
            };
            let (uid, node, volume) = exporters.iter().find_map(find).ok_or_else(missing)?;
            let agent = Agent { state, target: target(state, &node).await?, uid, token };
            match packed {
                true => packed_volume(&agent, &volume, is_head).await,
                false => raw_volume(&agent, &volume, is_head, request.headers()).await,
            }
        }
        What::Manifests | What::Header => {
            let (uid, node) = (first.uid.clone(), first.node.clone());
            let agent = Agent { state, target: target(state, &node).await?, uid, token };
            agent.check().await?;
            let is_yaml = request
                .headers()
                .get(ACCEPT)
                .and_then(|accept| accept.to_str().ok())
                .is_some_and(|accept| accept.contains("yaml"));
            let objects = match what {
                What::Header => vec![manifests::header(&name, &agent.token)?],
                _ => {
                    let exported: Vec<_> = exporters.iter().flat_map(|one| one.volumes.clone()).collect();
                    manifests::all(state, &export, &exported).await?
                }
            };
            Ok(known(listed(&objects, is_yaml, is_head)?))
        }
    }
}

fn not_found(message: impl Into<String>) -> Refusal {
    Refusal { code: 404, reason: "NotFound", message: message.into(), about: None }
}

/// The exporter Pods, which the controller alone makes.
async fn exporters(
    state: &State,
    namespace: &str,
    export: &VirtualMachineExport,
) -> Result<Vec<Exporter>, Refusal> {
    let pods: Api<Pod> = Api::namespaced(state.client.clone(), namespace);
    let uid = export.metadata.uid.as_deref().unwrap_or_default();
    let of_export = ListParams::default().labels(&format!("{EXPORT_LABEL}={uid}"));
    let listed = pods.list(&of_export).await.map_err(Refusal::of_api)?;
    let exporter = |pod: Pod| {
        let exported: ExportedVolumes = serde_json::from_str(annotation(&pod, EXPORT_ANNOTATION)?).ok()?;
        let spec = pod.spec?;
        let is_ours = spec.runtime_class_name.as_deref() == Some(RUNTIME_CLASS);
        let (uid, node) = (pod.metadata.uid?, spec.node_name.filter(|_| is_ours)?);
        Some(Exporter { uid, node, volumes: exported.volumes })
    };
    Ok(listed.items.into_iter().filter_map(exporter).collect())
}

async fn target(state: &State, name: &str) -> Result<Target, Refusal> {
    let nodes: Api<Node> = Api::all(state.client.clone());
    let node = nodes.get_opt(name).await.map_err(Refusal::of_api)?;
    let node = Arc::new(node.ok_or_else(|| Refusal::internal(format!("node {name} does not exist")))?);
    Target::of(&node).map_err(Refusal::internal)
}

/// The node that has an exporter Pod.
struct Agent<'a> {
    state: &'a State,
    target: Target,
    uid: String,
    token: HeaderValue,
}

impl Agent<'_> {
    /// Whether the token is that of the export.
    async fn check(&self) -> Result<(), Refusal> {
        self.get("").await.map(drop)
    }

    async fn get(&self, path: &str) -> Result<Response<Incoming>, Refusal> {
        let token = HeaderMap::from_iter([(HeaderName::from_static(TOKEN_HEADER), self.token.clone())]);
        let path = format!("/exports/{}{path}", self.uid);
        let asked = self.state.nodes.request(&self.target, Method::GET, &path, Some(&token)).await;
        let response = asked.map_err(Refusal::internal)?;
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        if code == StatusCode::UNAUTHORIZED {
            return Err(Refusal::unauthorized());
        }
        let text = Limited::new(response.into_body(), MOST_REFUSAL).collect().await;
        let text = text.map(|text| text.to_bytes()).unwrap_or_default();
        Err(Refusal::of_node(code.as_u16(), &String::from_utf8_lossy(&text)))
    }

    /// What a body is of: another exporter Pod may see another state of the volume, so a download is not resumed over one.
    fn tag(&self, volume: &ExportedVolume) -> String {
        format!("\"{}-{}\"", self.uid, volume.volume)
    }
}

async fn packed_volume(
    agent: &Agent<'_>,
    volume: &ExportedVolume,
    is_head: bool,
) -> Result<Response<Body>, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    let body = match is_head {
        true => {
            agent.check().await?;
            Either::Left(Full::default())
        }
        false => {
            let path = format!("/{}?from=0&bytes={}&format=gzip", volume.volume, volume.bytes);
            Either::Right(agent.get(&path).await?.into_body())
        }
    };
    Ok(response(StatusCode::OK, headers, body))
}

async fn raw_volume(
    agent: &Agent<'_>,
    volume: &ExportedVolume,
    is_head: bool,
    asked: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let tag = agent.tag(volume);
    // A range of what it was is no range of what it is.
    let is_same = text(IF_RANGE).is_none_or(|held| held == tag);
    let range = text(RANGE).filter(|_| is_same && !is_head);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, value(&tag)?);
    let (code, from, bytes) = match route::span(range, volume.bytes) {
        Span::Whole => (StatusCode::OK, 0, volume.bytes),
        Span::Part { from, bytes } => {
            let last = (from + bytes).saturating_sub(1);
            headers.insert(CONTENT_RANGE, value(&format!("bytes {from}-{last}/{}", volume.bytes))?);
            (StatusCode::PARTIAL_CONTENT, from, bytes)
        }
        Span::Beyond => {
            agent.check().await?;
            headers.insert(CONTENT_RANGE, value(&format!("bytes */{}", volume.bytes))?);
            let body = Either::Left(Full::default());
            return Ok(response(StatusCode::RANGE_NOT_SATISFIABLE, headers, body));
        }
    };
    headers.insert(CONTENT_LENGTH, bytes.into());
    let body = match is_head {
        true => {
            agent.check().await?;
            Either::Left(Full::default())
        }
        false => {
            let path = format!("/{}?from={from}&bytes={bytes}", volume.volume);
            Either::Right(agent.get(&path).await?.into_body())
        }
    };
    Ok(response(code, headers, body))
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(Refusal::internal)
}

fn response(code: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    response
}

/// Objects as KubeVirt lists them: documents of YAML, or a list in JSON.
fn listed(objects: &[serde_json::Value], is_yaml: bool, is_head: bool) -> Result<Answer, Refusal> {
    let (kind, text) = match is_yaml {
        true => ("application/yaml", manifests::yaml(objects)?),
        false => ("application/json", manifests::json(objects)?),
    };
    let mut response = Response::new(Full::new(if is_head { Bytes::new() } else { Bytes::from(text) }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
