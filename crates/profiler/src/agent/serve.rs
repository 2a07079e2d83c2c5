//! The agent: answers requests on one pipe, with one measurement at a time.

use std::fs::{File, TryLockError};
use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elastic_runtime::{OpenError, peak_memory};
use elastic_space::{Platform, Seed};
use thiserror::Error;

use super::protocol::{
    FailureKind, MAX_LINE, MAX_MODELS, MAX_ROUNDS, MeasureRequest, PROTOCOL, Reply, Request,
};
use super::store::{Store, StoreError};
use crate::conditions::{FixedClocks, check_memory, cool_down, stay_on};
use crate::device::{NotMeasured, Task, check_fallback, check_here, nodes_here, open_here};
use crate::identity::Host;
use crate::local::OpenDeviceError;
use crate::measure::{Session, microseconds};
use crate::vitals::Sensors;

/// How often a busy agent says that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// At most this often it says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// How an agent came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client has closed the pipe.
    Closed,
    /// A run hangs in the runtime, where nothing can stop it but the end of the process.
    Hung,
}

/// Why an agent stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Nobody reads what it says.
    #[error("write to the client: {0}")]
    Write(io::Error),
    /// It cannot be read what the client says.
    #[error("read from the client: {0}")]
    Read(io::Error),
    /// No end of a line, so that the next request cannot be found.
    #[error("a request is longer than {MAX_LINE} bytes")]
    TooLong,
}

/// What the agent hears: from the client, and from its own measurement.
enum Heard {
    Line(Vec<u8>),
    End(Result<(), ServeError>),
    Measuring(Reply),
}

/// Why a request is not carried out.
struct Failure {
    kind: FailureKind,
    message: String,
}

impl From<Failure> for Reply {
    fn from(Failure { kind, message }: Failure) -> Self {
        Self::Failed { kind, message }
    }
}

/// A measurement that is under way.
struct Busy {
    timeout: Duration,
    /// When something was last heard of it.
    heard: Instant,
    /// When the client was last told how far it is.
    told: Instant,
}

/// Answers requests until the client closes the pipe.
///
/// # Errors
///
/// [`ServeError`]: the pipe broke, or what comes is no line.
pub fn serve(
    input: impl BufRead + Send + 'static,
    output: impl Write,
    store: Store,
) -> Result<Ending, ServeError> {
    let (sender, receiver) = mpsc::channel();
    let lines = sender.clone();
    thread::spawn(move || read_lines(input, &lines));
    Agent { output, store, sender, busy: None }.run(&receiver)
}

struct Agent<W> {
    output: W,
    store: Store,
    sender: Sender<Heard>,
    busy: Option<Busy>,
}

impl<W: Write> Agent<W> {
    fn run(mut self, receiver: &Receiver<Heard>) -> Result<Ending, ServeError> {
        self.say(&Reply::Hello {
            protocol: PROTOCOL.to_owned(),
            elastic_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: Host::here(),
        })?;
        loop {
            let patience = self.busy.as_ref().map_or(ALIVE_EVERY, |busy| ALIVE_EVERY.min(busy.timeout / 4));
            match receiver.recv_timeout(patience) {
                Ok(Heard::Line(line)) => {
                    if let Some(reply) = self.answer(&line) {
                        self.say(&reply)?;
                    }
                }
                Ok(Heard::End(end)) => return end.map(|()| Ending::Closed),
                Ok(Heard::Measuring(reply)) => self.pass_on(&reply)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Closed),
            }
            let Some(busy) = &mut self.busy else { continue };
            if busy.heard.elapsed() > busy.timeout {
                let message = format!(
                    "nothing has happened for {} s: the agent ends, and the run with it",
                    busy.timeout.as_secs()
                );
                self.say(&Reply::Failed { kind: FailureKind::Timeout, message })?;
                return Ok(Ending::Hung);
            }
            if busy.told.elapsed() >= ALIVE_EVERY {
                busy.told = Instant::now();
                self.say(&Reply::Alive)?;
            }
        }
    }

    /// The answer to a request; none yet where a measurement has begun.
    fn answer(&mut self, line: &[u8]) -> Option<Reply> {
        let refuse = |message: String| Some(Failure { kind: FailureKind::Request, message }.into());
        let request = match serde_json::from_slice::<Request>(line) {
            Ok(request) => request,
            Err(error) => return refuse(format!("understand the request: {error}")),
        };
        if self.busy.is_some() {
            return refuse("a measurement is under way: wait for its end".to_owned());
        }
        let answer = match request {
            Request::Check { platform } => check(&platform),
            Request::Have { sha256 } => {
                let missing = self.store.missing(&sha256);
                missing.map(|sha256| Reply::Missing { sha256 }).map_err(storage)
            }
            Request::Put { sha256, bytes, offset, data } => match STANDARD.decode(data) {
                Err(error) => return refuse(format!("decode a part of {sha256}: {error}")),
                Ok(data) => {
                    let put = self.store.put(&sha256, bytes, offset, &data);
                    put.map(|bytes| Reply::Stored { sha256, bytes }).map_err(storage)
                }
            },
            Request::Measure(request) => match self.begin(*request) {
                Ok(()) => return None,
                Err(failure) => Err(failure),
            },
        };
        Some(answer.unwrap_or_else(Reply::from))
    }

    fn begin(&mut self, request: MeasureRequest) -> Result<(), Failure> {
        let refuse = |message: String| Failure { kind: FailureKind::Request, message };
        request.platform.validate().map_err(|error| refuse(error.to_string()))?;
        let count = request.models.len();
        if !(1..=MAX_MODELS).contains(&count) {
            return Err(refuse(format!("measure {count} models: 1 to {MAX_MODELS} are possible")));
        }
        if let Some(index) = request.nodes_of.iter().find(|&&index| index >= count) {
            return Err(refuse(format!(
                "time the nodes of model {index}: there are {count}, counted from 0"
            )));
        }
        if !(request.first_round..=request.first_round.saturating_add(MAX_ROUNDS))
            .contains(&request.end_round)
        {
            return Err(refuse(format!(
                "measure rounds {} to {}: 0 to {MAX_ROUNDS} are possible at a time",
                request.first_round, request.end_round
            )));
        }
        if request.timeout_s == 0 {
            return Err(refuse("timeout-s is 0: it must be at least 1".to_owned()));
        }
        let models = request.models.iter().map(|sha256| self.store.read(sha256));
        let models = models.collect::<Result<Vec<_>, _>>().map_err(storage)?;
        let lease = self.store.lease().map_err(storage)?;
        let now = Instant::now();
        self.busy = Some(Busy { timeout: Duration::from_secs(request.timeout_s), heard: now, told: now });
        let sender = self.sender.clone();
        thread::spawn(move || {
            // The agent may have ended meanwhile; then nobody wants to know.
            let say = |reply| {
                let _ = sender.send(Heard::Measuring(reply));
            };
            if let Err(failure) = leased(&lease, &say).and_then(|()| measure(&request, &models, &say)) {
                say(failed(&failure).into());
            }
        });
        Ok(())
    }

    /// Passes on what the measurement says.
    fn pass_on(&mut self, reply: &Reply) -> Result<(), ServeError> {
        let Some(busy) = &mut self.busy else { return Ok(()) };
        busy.heard = Instant::now();
        match reply {
            Reply::Progress { .. } | Reply::Alive if busy.told.elapsed() < PROGRESS_EVERY => return Ok(()),
            Reply::Done { .. } | Reply::Failed { .. } => self.busy = None,
            _ => busy.told = busy.heard,
        }
        self.say(reply)
    }

    fn say(&mut self, reply: &Reply) -> Result<(), ServeError> {
        let mut line = serde_json::to_vec(reply).map_err(|error| ServeError::Write(error.into()))?;
        line.push(b'\n');
        self.output.write_all(&line).and_then(|()| self.output.flush()).map_err(ServeError::Write)
    }
}

fn check(platform: &Platform) -> Result<Reply, Failure> {
    platform
        .validate()
        .map_err(|error| Failure { kind: FailureKind::Request, message: error.to_string() })?;
    let runtime_version = check_here(platform).map_err(|error| failed(&error))?;
    Ok(Reply::Ready { runtime_version })
}

/// Waits until no other agent measures on this device.
fn leased(lease: &File, say: &dyn Fn(Reply)) -> Result<(), NotMeasured> {
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    loop {
        match lease.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => say(Reply::Alive),
            Err(TryLockError::Error(error)) => return Err(NotMeasured::Lease(error)),
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// The measurement, on a thread of its own.
fn measure(request: &MeasureRequest, models: &[Vec<u8>], say: &dyn Fn(Reply)) -> Result<(), NotMeasured> {
    let MeasureRequest { platform, shapes, first_round, end_round, nodes_of, .. } = request;
    let seed = Seed(request.seed);
    let models: Vec<&[u8]> = models.iter().map(Vec::as_slice).collect();
    let task = Task { models: &models, shapes, seed, nodes_of, program: None };
    if let Some(thermal) = &platform.thermal {
        let sensors = Sensors::here(true);
        let mut wait = || {
            say(Reply::Alive);
            thread::sleep(Duration::from_secs(1));
        };
        cool_down(thermal, &mut || sensors.read().millicelsius, &mut wait)?;
    }
    let _fixed = FixedClocks::set(platform.clocks.as_ref())?;
    // The runtime's threads are started by this one.
    stay_on(&platform.affinity)?;
    let (mut environment, mut device) = open_here(platform, &task)?;
    let startup =
        |startup: &crate::local::Startup| [microseconds(startup.load), microseconds(startup.first_run)];
    let startups_us = device.startups().iter().map(startup).collect();
    let inputs = device.inputs().to_vec();
    say(Reply::Opened { environment: Box::new(environment.clone()), startups_us, inputs: inputs.clone() });
    if request.session == 0 {
        check_fallback(platform, &task, &inputs)?;
    }
    let mut session = Session::new(&mut device, models.len(), &platform.measure, seed)
        .with_thermal(platform.thermal.as_ref());
    if first_round < end_round {
        say(Reply::Warm(session.warm_up(&mut || say(Reply::Alive))?));
    }
    for number in *first_round..*end_round {
        let total = end_round * models.len();
        let mut progress = |done| say(Reply::Progress { done: number * models.len() + done, total });
        say(Reply::Round { number, round: session.round(request.session, number, &mut progress)? });
    }
    let held = peak_memory();
    check_memory(platform.memory.as_ref(), held)?;
    for &model in nodes_of {
        say(Reply::Nodes { model, nodes: nodes_here(platform, &task, model, &inputs[model])? });
    }
    environment.finish();
    say(Reply::Done { load_after: environment.load_after, peak_memory_bytes: held });
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "it ends an error's way")]
fn storage(error: StoreError) -> Failure {
    Failure { kind: FailureKind::Storage, message: error.to_string() }
}

fn failed(error: &NotMeasured) -> Failure {
    let kind = match error {
        NotMeasured::Identity(_) => FailureKind::Identity,
        NotMeasured::Runtime(_) => FailureKind::Runtime,
        NotMeasured::Open(OpenDeviceError::Inputs { .. } | OpenDeviceError::UnknownInput { .. }) => {
            FailureKind::Request
        }
        NotMeasured::Open(OpenDeviceError::Open { source: OpenError::Elsewhere { .. }, .. })
        | NotMeasured::OtherProvider { .. }
        | NotMeasured::Fallback { .. } => FailureKind::Provider,
        NotMeasured::Open(_) => FailureKind::Model,
        NotMeasured::Measure(_) | NotMeasured::Nodes(_) => FailureKind::Run,
        NotMeasured::Lease(_) => FailureKind::Storage,
        NotMeasured::Condition(_) => FailureKind::Condition,
        // A platform that this agent is given names how the client reaches the agent; it goes no further.
        NotMeasured::Remote(_) => FailureKind::Request,
    };
    Failure { kind, message: error.to_string() }
}

fn read_lines(mut input: impl BufRead, sender: &Sender<Heard>) {
    let end = loop {
        let mut line = Vec::new();
        match input.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line) {
            Err(error) => break Err(ServeError::Read(error)),
            Ok(0) => break Ok(()),
            Ok(MAX_LINE) if line.last() != Some(&b'\n') => break Err(ServeError::TooLong),
            Ok(_) => {}
        }
        if sender.send(Heard::Line(line)).is_err() {
            return;
        }
    };
    let _ = sender.send(Heard::End(end));
}
