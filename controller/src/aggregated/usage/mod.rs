//! `metrics.k8s.io`: CPU and memory of nodes and VMs, for `kubectl top`, k9s, Headlamp and autoscalers.
//!
//! Why here: metrics-server is a Deployment, which Sheaf's nodes cannot run; its whole work is to read what each node serves
//! under `/metrics/resource` and to answer with the rate between two readings. Every replica reads for itself ([`scrape`]),
//! so that any of them can answer. Route in: requests below `/apis/metrics.k8s.io/v1beta1` ([`routes`]). Route out: NodeMetrics
//! and PodMetrics ([`answer`]).

mod answer;
mod page;
mod routes;
mod samples;
mod scrape;

pub use answer::serve;
pub use routes::{GROUP, Route, VERSION, route};
pub use samples::Samples;
pub use scrape::run;
