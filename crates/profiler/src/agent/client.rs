//! The client: starts an agent, sends what it lacks, and keeps every round that arrives.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elastic_runtime::NodeTime;
use elastic_space::{Platform, file};
use thiserror::Error;

use super::protocol::{CHUNK, FailureKind, MAX_LINE, MeasureRequest, PROTOCOL, Reply, Request};
use crate::device::{Measured, Task};
use crate::environment::Environment;
use crate::identity::Host;
use crate::inputs::GivenInput;
use crate::local::Startup;
use crate::measure::{Round, Visit, WarmUp, next_session};
use crate::statistics::median;
use crate::summary::{Course, summarise};

/// How long a link may be silent, and how long it may take to come up.
const SILENCE: Duration = Duration::from_secs(45);
/// How often a lost link is taken up again without anything having come over it meanwhile.
const ATTEMPTS: u32 = 3;
/// How long the models may take to load on this machine, or one visit to run, before a session counts as hung.
const PATIENCE_HERE: Duration = Duration::from_secs(600);
/// What messages call a session on this machine.
const HERE: &str = "elastic agent";
/// How much of what the command wrote to its standard error is told.
const COMPLAINT: usize = 2000;

/// Why a remote device did not measure.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The command cannot be started.
    #[error("start `{command}`: {source}; is the program there? (transport in the platform file)")]
    Start {
        /// The command.
        command: String,
        /// The cause.
        source: io::Error,
    },
    /// The link was lost, and did not come back.
    #[error("`{command}` {what}{}; {kept} rounds had arrived; {}", complaint(stderr), remedy(command))]
    Lost {
        /// The command.
        command: String,
        /// What happened.
        what: String,
        /// What the command wrote to its standard error.
        stderr: String,
        /// Rounds that had arrived.
        kept: usize,
    },
    /// What comes is not the protocol.
    #[error(
        "`{command}` does not speak {PROTOCOL}: {reason}{}; run the same version of elastic on both sides",
        complaint(stderr)
    )]
    Protocol {
        /// The command.
        command: String,
        /// What came instead.
        reason: String,
        /// What the command wrote to its standard error.
        stderr: String,
    },
    /// The agent refused.
    #[error("{}{message}", place(command))]
    Refused {
        /// The command.
        command: String,
        /// What kind of failure it is.
        kind: FailureKind,
        /// The agent's reason.
        message: String,
    },
}

fn place(command: &str) -> String {
    if command == HERE { String::new() } else { format!("on the device (`{command}`): ") }
}

fn remedy(command: &str) -> &'static str {
    if command == HERE {
        "the runtime has ended the process: try another one, or another execution provider"
    } else {
        "see that the device is reached and has this version of elastic, then run this again"
    }
}

impl RemoteError {
    /// Whether it was a session on this machine.
    pub fn is_here(&self) -> bool {
        match self {
            Self::Start { command, .. }
            | Self::Lost { command, .. }
            | Self::Protocol { command, .. }
            | Self::Refused { command, .. } => command == HERE,
        }
    }
}

fn complaint(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(" ({stderr})") }
}

/// Asks a remote device who it is, and whether it can measure; returns its runtime's name and version too.
///
/// # Errors
///
/// [`RemoteError`]
///
/// # Panics
///
/// If the platform is this machine.
pub fn check_remote(platform: &Platform) -> Result<(Host, String), RemoteError> {
    let mut link = Link::open(&Way::to(platform), 0)?;
    link.send(&Request::Check { platform: Box::new(platform.clone()) })?;
    match link.receive()? {
        Reply::Ready { runtime_version } => Ok((link.host.clone(), runtime_version)),
        other => Err(link.unexpected(&other)),
    }
}

/// Measures models as [`crate::measure_on`] describes, each session in an agent of its own: on the platform's device, or on this
/// machine where that is the device and `task.program` is the program.
///
/// A lost link is taken up again; rounds that have arrived are kept, and models that are there are not sent again.
///
/// # Errors
///
/// [`RemoteError`]
///
/// # Panics
///
/// If the platform is this machine and the task names no program.
pub fn measure_remote(
    platform: &Platform,
    task: &Task<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measured, RemoteError> {
    let folder = tempfile::tempdir()
        .map_err(|source| RemoteError::Start { command: "make a temporary folder".to_owned(), source })?;
    let mut job = Job {
        platform,
        task,
        way: task
            .program
            .map_or_else(|| Way::to(platform), |program| Way::here(program, folder.path(), task)),
        names: task.models.iter().map(|model| file::sha256(model)).collect(),
        sessions: Vec::new(),
        environment: None,
        inputs: Vec::new(),
        rounds: Vec::new(),
        nodes: Vec::new(),
        peak_memory_bytes: None,
    };
    while let Some(rounds) = next_session(&job.rounds, &platform.measure) {
        if !job.sessions.is_empty() {
            thread::sleep(Duration::from_secs(platform.measure.cool_down_s));
        }
        job.sessions.push(Opened::default());
        job.session(rounds.end, progress)?;
    }
    Ok(job.finish())
}

/// How an agent is started.
struct Way {
    command: Vec<String>,
    /// What messages call it.
    name: String,
    timeout: Duration,
}

impl Way {
    /// As the platform says.
    fn to(platform: &Platform) -> Self {
        let (command, timeout) = platform.transport.command().expect("a remote platform");
        Self { name: command.join(" "), command, timeout }
    }

    /// On this machine. What measures here waits for one another, wherever its models lie.
    fn here(program: &Path, work: &Path, task: &Task<'_>) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut command = vec![text(program), "agent".to_owned(), "--work".to_owned(), text(work)];
        // The folder is this measurement's own.
        let megabytes = task.models.iter().map(|model| model.len()).sum::<usize>() / 1_000_000 + 1;
        command.extend(["--disk-limit-mb".to_owned(), megabytes.to_string()]);
        if let Some(cache) = elastic_runtime::Environment::current().cache {
            command.extend(["--lease".to_owned(), text(&cache.join("lease"))]);
        }
        Self { command, name: HERE.to_owned(), timeout: PATIENCE_HERE }
    }
}

/// What a session said before its first round.
#[derive(Default)]
struct Opened {
    startups: Vec<Startup>,
    warm_up: WarmUp,
}

/// A measurement, and what has arrived of it.
struct Job<'a> {
    platform: &'a Platform,
    task: &'a Task<'a>,
    way: Way,
    /// SHA-256 of each model.
    names: Vec<String>,
    sessions: Vec<Opened>,
    /// The circumstances of the first session.
    environment: Option<Environment>,
    inputs: Vec<Vec<GivenInput>>,
    rounds: Vec<Round>,
    /// The nodes of the first models of `task.nodes_of`.
    nodes: Vec<Vec<NodeTime>>,
    peak_memory_bytes: Option<u64>,
}

impl Job<'_> {
    /// Measures up to a round in one session, whose link may be lost and taken up again.
    fn session(&mut self, end: usize, progress: &mut dyn FnMut(usize, usize)) -> Result<(), RemoteError> {
        let mut failures = 0;
        loop {
            let before = self.rounds.len();
            match self.attempt(end, progress) {
                Ok(()) => return Ok(()),
                Err(RemoteError::Lost { .. }) if failures < ATTEMPTS || self.rounds.len() > before => {
                    failures = if self.rounds.len() > before { 1 } else { failures + 1 };
                    thread::sleep(Duration::from_secs(u64::from(failures)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One link to an agent.
    fn attempt(&mut self, end: usize, progress: &mut dyn FnMut(usize, usize)) -> Result<(), RemoteError> {
        // Nodes are timed once, in the first session.
        let session = self.sessions.len() - 1;
        let nodes_of: &[usize] = if session == 0 { self.task.nodes_of } else { &[] };
        if session == 0 {
            self.nodes.clear();
        }
        let mut link = Link::open(&self.way, self.rounds.len())?;
        self.send_models(&mut link)?;
        link.send(&Request::Measure(Box::new(MeasureRequest {
            platform: self.platform.clone(),
            models: self.names.clone(),
            shapes: self.task.shapes.clone(),
            seed: self.task.seed.0,
            nodes_of: nodes_of.to_vec(),
            session,
            first_round: self.rounds.len(),
            end_round: end,
            timeout_s: link.timeout.as_secs(),
        })))?;
        let models = self.task.models.len();
        loop {
            match link.receive()? {
                Reply::Opened { environment, startups_us, inputs }
                    if startups_us.len() == models && inputs.len() == models =>
                {
                    let duration = |us: f64| Duration::try_from_secs_f64(us / 1e6).unwrap_or_default();
                    let startup = |[load, first_run]: [f64; 2]| Startup {
                        load: duration(load),
                        first_run: duration(first_run),
                    };
                    self.environment.get_or_insert(*environment);
                    self.inputs = inputs;
                    self.sessions[session].startups = startups_us.into_iter().map(startup).collect();
                }
                Reply::Warm(warm_up) => self.sessions[session].warm_up = warm_up,
                Reply::Progress { done, total } => progress(done, total),
                Reply::Round { number, round } if self.fits(number, end, &round) => {
                    self.rounds.push(Round { session, ..round });
                    link.kept = self.rounds.len();
                    progress(self.rounds.len() * models, end * models);
                }
                Reply::Nodes { model, nodes } if nodes_of.get(self.nodes.len()) == Some(&model) => {
                    self.nodes.push(nodes);
                }
                Reply::Done { load_after, peak_memory_bytes }
                    if self.rounds.len() == end && self.nodes.len() == self.task.nodes_of.len() =>
                {
                    if let Some(environment) = &mut self.environment {
                        environment.load_after = load_after;
                    }
                    self.peak_memory_bytes = self.peak_memory_bytes.max(peak_memory_bytes);
                    return Ok(());
                }
                Reply::Alive => {}
                other => return Err(link.unexpected(&other)),
            }
        }
    }

    fn send_models(&self, link: &mut Link) -> Result<(), RemoteError> {
        link.send(&Request::Have { sha256: self.names.clone() })?;
        let missing = match link.receive()? {
            Reply::Missing { sha256 } => sha256,
            other => return Err(link.unexpected(&other)),
        };
        let mut sent = std::collections::BTreeSet::new();
        for (name, model) in self.names.iter().zip(self.task.models) {
            if !missing.contains(name) || !sent.insert(name) {
                continue;
            }
            for (index, part) in model.chunks(CHUNK).enumerate() {
                link.send(&Request::Put {
                    sha256: name.clone(),
                    bytes: model.len() as u64,
                    offset: (index * CHUNK) as u64,
                    data: STANDARD.encode(part),
                })?;
                match link.receive()? {
                    Reply::Stored { .. } => {}
                    other => return Err(link.unexpected(&other)),
                }
            }
        }
        Ok(())
    }

    /// Whether a round is the next one, and whole.
    fn fits(&self, number: usize, end: usize, round: &Round) -> bool {
        let runs = self.platform.measure.runs_per_visit;
        let is_time = |us: &f64| us.is_finite() && *us > 0.0;
        let whole = |visit: &Visit| {
            let timed = visit.wall_us.len();
            timed >= runs
                && timed.is_multiple_of(runs)
                && visit.wall_us.iter().all(is_time)
                && is_time(&visit.reference_us)
        };
        number == self.rounds.len()
            && number < end
            && round.visits.len() == self.task.models.len()
            && round.visits.iter().all(whole)
    }

    fn finish(self) -> Measured {
        let startup = |model: usize, part: fn(&Startup) -> Duration| {
            let all = self.sessions.iter().filter_map(|session| session.startups.get(model));
            Duration::from_secs_f64(median(all.map(|startup| part(startup).as_secs_f64())))
        };
        let startups = (0..self.task.models.len()).map(|model| Startup {
            load: startup(model, |startup| startup.load),
            first_run: startup(model, |startup| startup.first_run),
        });
        let warm_ups: Vec<WarmUp> = self.sessions.iter().map(|session| session.warm_up).collect();
        Measured {
            startups: startups.collect(),
            course: Course::new(&self.rounds, &warm_ups, self.peak_memory_bytes),
            measurements: summarise(&self.rounds),
            environment: self.environment.expect("a session ends only after it was told"),
            inputs: self.inputs,
            nodes: self.nodes,
        }
    }
}

/// A running agent at the other end of a pipe. It ends with this value.
struct Link {
    command: String,
    host: Host,
    timeout: Duration,
    child: Child,
    /// Lines for the writer; without it, the command's input is closed.
    input: Option<Sender<Vec<u8>>>,
    lines: Receiver<io::Result<Vec<u8>>>,
    stderr: Option<JoinHandle<String>>,
    /// Rounds that had arrived, for messages.
    kept: usize,
}

impl Link {
    /// Starts the command and waits for the agent to say who it is.
    fn open(way: &Way, kept: usize) -> Result<Self, RemoteError> {
        let (command, timeout) = (way.name.clone(), way.timeout);
        let mut child = Command::new(&way.command[0])
            .args(&way.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| RemoteError::Start { command: command.clone(), source })?;
        let (sender, lines) = mpsc::sync_channel(16);
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            loop {
                let mut line = Vec::new();
                let read = output.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line);
                let ended = !matches!(read, Ok(1..));
                if sender.send(read.map(|_| line)).is_err() || ended {
                    return;
                }
            }
        });
        let stderr = child.stderr.take().expect("a pipe");
        let stderr = thread::spawn(move || last_words(stderr));
        let (input, requests) = mpsc::channel();
        let stdin = child.stdin.take().expect("a pipe");
        thread::spawn(move || write_lines(stdin, &requests));
        let host =
            Host { arch: String::new(), os: String::new(), models: Vec::new(), threads: 0, memory_mb: 0 };
        let mut link =
            Self { command, host, timeout, child, input: Some(input), lines, stderr: Some(stderr), kept };
        match link.receive()? {
            Reply::Hello { protocol, host, .. } if protocol == PROTOCOL => {
                link.host = host;
                Ok(link)
            }
            Reply::Hello { protocol, elastic_version, .. } => {
                Err(link.foreign(format!("it speaks {protocol} (elastic {elastic_version})")))
            }
            other => Err(link.unexpected(&other)),
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), RemoteError> {
        let mut line = serde_json::to_vec(request).expect("requests are plain data");
        line.push(b'\n');
        let input = self.input.as_ref().expect("open until the end");
        input.send(line).map_err(|_| self.lost("took no more input".to_owned()))
    }

    fn receive(&mut self) -> Result<Reply, RemoteError> {
        let line = match self.lines.recv_timeout(SILENCE) {
            Ok(Ok(line)) if line.is_empty() => return Err(self.lost("ended".to_owned())),
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(self.lost(format!("cannot be read: {error}"))),
            Err(RecvTimeoutError::Timeout) => {
                return Err(self.lost(format!("was silent for {} s", SILENCE.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.lost("ended".to_owned())),
        };
        if line.last() != Some(&b'\n') {
            // The end of the pipe in the middle of a line; a longer line than is allowed is no protocol.
            return Err(if line.len() < MAX_LINE {
                self.lost("ended in the middle of a line".to_owned())
            } else {
                self.foreign(format!("a line of more than {MAX_LINE} bytes came"))
            });
        }
        serde_json::from_slice(&line).map_err(|error| {
            let text: String = String::from_utf8_lossy(&line).trim_end().chars().take(200).collect();
            self.foreign(format!("`{text}` came ({error})"))
        })
    }

    /// An answer that does not belong here: a refusal, or no protocol.
    fn unexpected(&mut self, reply: &Reply) -> RemoteError {
        match reply {
            Reply::Failed { kind, message } => {
                RemoteError::Refused { command: self.command.clone(), kind: *kind, message: message.clone() }
            }
            other => {
                let text: String = format!("{other:?}").chars().take(200).collect();
                self.foreign(format!("{text} came where it does not belong"))
            }
        }
    }

    fn lost(&mut self, what: String) -> RemoteError {
        let stderr = self.end();
        RemoteError::Lost { command: self.command.clone(), what, stderr, kept: self.kept }
    }

    fn foreign(&mut self, reason: String) -> RemoteError {
        let stderr = self.end();
        RemoteError::Protocol { command: self.command.clone(), reason, stderr }
    }

    /// Ends the command; returns what it wrote to its standard error.
    fn end(&mut self) -> String {
        drop(self.input.take());
        // It may have ended by itself; what remains is to wait for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stderr.take().and_then(|stderr| stderr.join().ok()).unwrap_or_default()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.stderr.is_some() {
            self.end();
        }
    }
}

/// Writes lines until there are no more, or nobody reads them.
fn write_lines(mut output: impl Write, lines: &Receiver<Vec<u8>>) {
    // A program that ends quietly when the reader of its own output goes away would end here too.
    #[cfg(unix)]
    if nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGPIPE).thread_block().is_err() {
        return;
    }
    for line in lines {
        if output.write_all(&line).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

/// The end of what a command writes to its standard error, in one line.
fn last_words(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    let mut block = [0; 4096];
    // An error ends it as the end does: what was said before still helps.
    while let Ok(count @ 1..) = stderr.read(&mut block) {
        kept.extend_from_slice(&block[..count]);
        if kept.len() > 2 * COMPLAINT {
            kept.drain(..kept.len() - COMPLAINT);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
