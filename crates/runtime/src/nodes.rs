//! The time of every node of a graph, from ONNX Runtime's own profile, and the execution provider that ran it.
//!
//! Profiling slows a run down, so these are passes of their own: a node's share is sound, the sum is not the latency.

use std::collections::BTreeMap;
use std::path::PathBuf;

use elastic_space::Array;
use elastic_space::platform::OnnxRuntime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::onnx::runner::OnnxRunner;
use crate::runner::Runner;
use crate::session::{OpenError, RunError};

/// What ONNX Runtime adds to a node's name in the events of its run.
const RUN_SUFFIX: &str = "_kernel_time";

/// A node of the graph as the runtime has optimised it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeTime {
    /// Its name; a fused node has one of the runtime's.
    pub name: String,
    /// Its operator, which may be one of the runtime's own.
    pub operator: String,
    /// The execution provider that ran it, for instance `CPUExecutionProvider`.
    pub provider: String,
    /// Median time of a run in microseconds.
    pub median_us: f64,
}

/// Why nodes were not timed.
#[derive(Debug, Error)]
pub enum NodesError {
    /// The model cannot be loaded.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is no place for the profile, or it cannot be read.
    #[error("time nodes: {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The profile is no list of events.
    #[error("time nodes: read ONNX Runtime's profile: {0}")]
    Profile(#[from] serde_json::Error),
    /// The runtime did not end its profile.
    #[error("time nodes: {0}")]
    End(String),
}

/// An event of the profile, as far as it is used.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Microseconds.
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

/// Runs a model a number of times, after two runs that do not count, and times its nodes, in the order in which they run.
///
/// # Errors
///
/// [`NodesError`]
pub fn node_times(
    settings: &OnnxRuntime,
    model: &[u8],
    inputs: &[Array],
    runs: usize,
) -> Result<Vec<NodeTime>, NodesError> {
    const UNCOUNTED: usize = 2;
    let file = |path: PathBuf| move |source| NodesError::File { path, source };
    let folder = tempfile::tempdir().map_err(file(std::env::temp_dir()))?;
    let mut runner = OnnxRunner::profiled(settings, model, &folder.path().join("nodes"))?;
    runner.feed(inputs)?;
    for _ in 0..UNCOUNTED + runs {
        runner.run()?;
    }
    let path = PathBuf::from(runner.end_profile().map_err(NodesError::End)?);
    let text = std::fs::read(&path).map_err(file(path.clone()))?;
    times(&text, UNCOUNTED)
}

/// The nodes of a profile; the first runs do not count.
fn times(profile: &[u8], uncounted: usize) -> Result<Vec<NodeTime>, NodesError> {
    let events: Vec<Event> = serde_json::from_slice(profile)?;
    let mut nodes: Vec<(NodeTime, Vec<f64>)> = Vec::new();
    for event in events {
        let Some(name) = event.name.strip_suffix(RUN_SUFFIX).filter(|_| event.cat == "Node") else {
            continue;
        };
        let argument =
            |key: &str| event.args.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        match nodes.iter_mut().find(|(node, _)| node.name == name) {
            Some((_, times)) => times.push(event.dur),
            None => {
                let (operator, provider) = (argument("op_name"), argument("provider"));
                let node = NodeTime { name: name.to_owned(), operator, provider, median_us: 0.0 };
                nodes.push((node, vec![event.dur]));
            }
        }
    }
    Ok(nodes
        .into_iter()
        .map(|(node, times)| NodeTime { median_us: median(&times, uncounted), ..node })
        .collect())
}

/// The upper median of all but the first values; of all, where there are no more.
fn median(times: &[f64], uncounted: usize) -> f64 {
    let mut counted = times.get(uncounted..).filter(|rest| !rest.is_empty()).unwrap_or(times).to_vec();
    counted.sort_by(f64::total_cmp);
    counted[counted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_a_profile_by_hand() {
        let event = |name: &str, cat: &str, dur: f64| {
            format!(
                r#"{{"cat":"{cat}","name":"{name}","dur":{dur},"args":{{"op_name":"Gemm","provider":"CPUExecutionProvider"}}}}"#
            )
        };
        let runs = [90.0, 80.0, 5.0, 7.0, 6.0].map(|us| event("head_kernel_time", "Node", us));
        let others = [
            event("head_fence_before", "Node", 1.0),
            event("model_run", "Session", 300.0),
            event("late_kernel_time", "Node", 4.0),
            r#"{"ph":"M"}"#.to_owned(),
        ];
        let text = format!("[{}]", runs.into_iter().chain(others).collect::<Vec<_>>().join(","));
        let node = |name: &str, median_us| NodeTime {
            name: name.into(),
            operator: "Gemm".into(),
            provider: "CPUExecutionProvider".into(),
            median_us,
        };
        assert_eq!(times(text.as_bytes(), 2).expect("a profile"), [node("head", 6.0), node("late", 4.0)]);
        assert!(matches!(times(b"[{", 0), Err(NodesError::Profile(_))));
    }
}
