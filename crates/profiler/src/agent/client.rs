//! The client: starts an agent, sends what it lacks, and keeps every round that arrives.

use std::io::{self, BufRead, BufReader, Read, Write};
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
use crate::environment::Environment;
use crate::identity::Host;
use crate::inputs::GivenInput;
use crate::local::Startup;
use crate::measure::{Visit, rounds, summarise};
use crate::profile::{Measured, Task};

/// How long a link may be silent, and how long it may take to come up.
const SILENCE: Duration = Duration::from_secs(45);
/// How often a lost link is taken up again without anything having come over it meanwhile.
const ATTEMPTS: u32 = 3;
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
    #[error(
        "`{command}` {what}{}; {kept} rounds had arrived; see that the device is reached and has this version of elastic, then run this again",
        complaint(stderr)
    )]
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
    #[error("on the device (`{command}`): {message}")]
    Refused {
        /// The command.
        command: String,
        /// What kind of failure it is.
        kind: FailureKind,
        /// The agent's reason.
        message: String,
    },
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
    let mut link = Link::open(platform, 0)?;
    link.send(&Request::Check { platform: Box::new(platform.clone()) })?;
    match link.receive()? {
        Reply::Ready { runtime_version } => Ok((link.host.clone(), runtime_version)),
        other => Err(link.unexpected(&other)),
    }
}

/// Measures models on a remote device as [`crate::measure_on`] describes.
///
/// A lost link is taken up again; rounds that have arrived are kept, and models that are there are not sent again.
///
/// # Errors
///
/// [`RemoteError`]
///
/// # Panics
///
/// If the platform is this machine.
pub fn measure_remote(
    platform: &Platform,
    task: &Task<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measured, RemoteError> {
    let mut job = Job {
        platform,
        task,
        names: task.models.iter().map(|model| file::sha256(model)).collect(),
        opened: None,
        rounds: Vec::new(),
        nodes: Vec::new(),
    };
    let mut failures = 0;
    loop {
        let before = job.rounds.len();
        match job.attempt(progress) {
            Ok(load_after) => return Ok(job.finish(load_after)),
            Err(RemoteError::Lost { .. }) if failures < ATTEMPTS || job.rounds.len() > before => {
                failures = if job.rounds.len() > before { 1 } else { failures + 1 };
                thread::sleep(Duration::from_secs(u64::from(failures)));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A measurement, and what has arrived of it.
struct Job<'a> {
    platform: &'a Platform,
    task: &'a Task<'a>,
    /// SHA-256 of each model.
    names: Vec<String>,
    /// The circumstances, the startups and the inputs of the first session.
    opened: Option<(Environment, Vec<Startup>, Vec<Vec<GivenInput>>)>,
    rounds: Vec<Vec<Visit>>,
    /// The nodes of the first models of `task.nodes_of`.
    nodes: Vec<Vec<NodeTime>>,
}

impl Job<'_> {
    /// One session with the agent; returns the device's load at the end.
    fn attempt(&mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<Option<f64>, RemoteError> {
        self.nodes.clear();
        let mut link = Link::open(self.platform, self.rounds.len())?;
        self.send_models(&mut link)?;
        link.send(&Request::Measure(Box::new(MeasureRequest {
            platform: self.platform.clone(),
            models: self.names.clone(),
            shapes: self.task.shapes.clone(),
            seed: self.task.seed.0,
            nodes_of: self.task.nodes_of.to_vec(),
            first_round: self.rounds.len(),
            timeout_s: link.timeout.as_secs(),
        })))?;
        loop {
            match link.receive()? {
                Reply::Opened { environment, startups_us, inputs }
                    if startups_us.len() == self.task.models.len() && inputs.len() == startups_us.len() =>
                {
                    let duration = |us: f64| Duration::try_from_secs_f64(us / 1e6).unwrap_or_default();
                    let startup = |[load, first_run]: [f64; 2]| Startup {
                        load: duration(load),
                        first_run: duration(first_run),
                    };
                    let startups = startups_us.into_iter().map(startup).collect();
                    self.opened.get_or_insert((*environment, startups, inputs));
                }
                Reply::Progress { done, total } => progress(done, total),
                Reply::Round { round, visits } if self.fits(round, &visits) => {
                    self.rounds.push(visits);
                    link.kept = self.rounds.len();
                    progress(
                        self.rounds.len() * self.task.models.len(),
                        self.rounds_in_all() * self.task.models.len(),
                    );
                }
                Reply::Nodes { model, nodes } if self.task.nodes_of.get(self.nodes.len()) == Some(&model) => {
                    self.nodes.push(nodes);
                }
                Reply::Done { load_after } if self.is_whole() => {
                    return Ok(load_after);
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
    fn fits(&self, round: usize, visits: &[Visit]) -> bool {
        let runs = self.platform.measure.runs_per_visit;
        let whole = |visit: &Visit| {
            visit.wall_us.len() == runs && visit.wall_us.iter().all(|us| us.is_finite() && *us > 0.0)
        };
        round == self.rounds.len() && visits.len() == self.task.models.len() && visits.iter().all(whole)
    }

    /// Whether everything that was asked for has come.
    fn is_whole(&self) -> bool {
        self.opened.is_some()
            && self.rounds.len() == self.rounds_in_all()
            && self.nodes.len() == self.task.nodes_of.len()
    }

    fn rounds_in_all(&self) -> usize {
        rounds(&self.platform.measure)
    }

    fn finish(self, load_after: Option<f64>) -> Measured {
        let (mut environment, startups, inputs) = self.opened.expect("`attempt` ends only after it was told");
        environment.load_after = load_after;
        Measured { environment, startups, inputs, measurements: summarise(&self.rounds), nodes: self.nodes }
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
    fn open(platform: &Platform, kept: usize) -> Result<Self, RemoteError> {
        let (words, timeout) = platform.transport.command().expect("a remote platform");
        let command = words.join(" ");
        let mut child = Command::new(&words[0])
            .args(&words[1..])
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
        let host = Host { arch: String::new(), os: String::new(), models: Vec::new(), threads: 0 };
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
