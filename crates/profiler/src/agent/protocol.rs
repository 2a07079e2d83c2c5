//! The messages between a client and an agent, version 1.
//!
//! Both directions carry one JSON value a line, in UTF-8, at most [`MAX_LINE`] bytes long. The agent speaks first
//! ([`Reply::Hello`]); afterwards it answers. Only while it measures does it speak unasked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use elastic_runtime::NodeTime;
use elastic_space::Platform;

use crate::environment::Environment;
use crate::identity::Host;
use crate::inputs::{GivenInput, Shapes};
use crate::measure::{Round, WarmUp};

/// The name and version of the protocol; client and agent must have the same.
pub const PROTOCOL: &str = "elastic.agent/v1";

/// The longest line in bytes, with its end.
pub const MAX_LINE: usize = 8 << 20;

/// Bytes of a model in one [`Request::Put`].
pub const CHUNK: usize = 1 << 20;

/// The most models of one [`Request::Measure`].
pub const MAX_MODELS: usize = 4096;

/// The most rounds of one [`Request::Measure`].
pub const MAX_ROUNDS: usize = 1 << 20;

/// What a client asks of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Is this the platform's device, and does its runtime start? Answer: [`Reply::Ready`].
    Check {
        /// The platform.
        platform: Box<Platform>,
    },
    /// Which of these models are missing? Answer: [`Reply::Missing`].
    Have {
        /// SHA-256 of each, in lowercase hexadecimal.
        sha256: Vec<String>,
    },
    /// A part of a model; the parts come in their order. Answer: [`Reply::Stored`].
    Put {
        /// SHA-256 of the whole.
        sha256: String,
        /// Bytes of the whole.
        bytes: u64,
        /// Where this part begins.
        offset: u64,
        /// The part in base64.
        data: String,
    },
    /// Measure models that are there, in one session. Answer: [`Reply::Opened`], [`Reply::Warm`], a [`Reply::Round`] for each
    /// round that is left, a [`Reply::Nodes`] for each model of `nodes-of`, and [`Reply::Done`].
    Measure(Box<MeasureRequest>),
}

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MeasureRequest {
    /// The platform.
    pub platform: Platform,
    /// SHA-256 of each model; the first is the reference.
    pub models: Vec<String>,
    /// Sizes of inputs, by their names, that the models leave open.
    pub shapes: Shapes,
    /// The seed of inputs and order.
    pub seed: u64,
    /// The models, by their place in `models`, whose nodes are timed one by one after the rounds.
    pub nodes_of: Vec<usize>,
    /// The session, from 0.
    pub session: usize,
    /// The round to begin with, from 0, counted over all sessions.
    pub first_round: usize,
    /// The round to end before.
    pub end_round: usize,
    /// Seconds that the models may take to load, or one visit to run; then the agent answers
    /// [`FailureKind::Timeout`] and ends.
    pub timeout_s: u64,
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// Who speaks; the first line.
    Hello {
        /// [`PROTOCOL`]
        protocol: String,
        /// The version of elastic.
        elastic_version: String,
        /// The device.
        host: Host,
    },
    /// The device is the platform's.
    Ready {
        /// Name and version of what will run the models.
        runtime_version: String,
    },
    /// The models that must be sent.
    Missing {
        /// SHA-256 of each.
        sha256: Vec<String>,
    },
    /// A part of a model has arrived.
    Stored {
        /// SHA-256 of the whole.
        sha256: String,
        /// Bytes that are there.
        bytes: u64,
    },
    /// All models are loaded and have run once.
    Opened {
        /// The circumstances.
        environment: Box<Environment>,
        /// Of each model: microseconds to load it, and of its first run.
        startups_us: Vec<[f64; 2]>,
        /// The inputs of each model's runs.
        inputs: Vec<Vec<GivenInput>>,
    },
    /// All models have been run until they were steady.
    Warm(WarmUp),
    /// How far the measurement is.
    Progress {
        /// Visits that are done, counted from round 0 of the first session.
        done: usize,
        /// Visits in all, up to the end of this session.
        total: usize,
    },
    /// A round is done.
    Round {
        /// Its number, from 0.
        number: usize,
        /// What was measured.
        round: Round,
    },
    /// The nodes of a model were timed.
    Nodes {
        /// The model's place in the request.
        model: usize,
        /// Its nodes in the order in which they run; none where the runtime does not time them.
        nodes: Vec<NodeTime>,
    },
    /// All rounds are done.
    Done {
        /// The device's load, averaged over a minute, after the last run.
        load_after: Option<f64>,
        /// The most memory that the agent has held, in bytes.
        peak_memory_bytes: Option<u64>,
    },
    /// The agent is there and still busy; sent where nothing else is.
    Alive,
    /// A request was not carried out.
    Failed {
        /// What kind of failure it is.
        kind: FailureKind,
        /// The reason, for people.
        message: String,
    },
}

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The agent's machine is another device.
    Identity,
    /// The runtime or its execution provider is missing.
    Runtime,
    /// A model cannot be loaded, or its first run failed.
    Model,
    /// A run failed.
    Run,
    /// The platform's conditions do not hold: clocks, temperature or memory.
    Condition,
    /// A node ran on another execution provider than the platform names.
    Provider,
    /// Nothing happened for longer than the request allows; the agent ends.
    Timeout,
    /// A model cannot be stored, or is damaged.
    Storage,
    /// The request cannot be understood, or does not fit what was said before.
    Request,
}
