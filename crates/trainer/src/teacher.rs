//! Teachers outside the supernet that learns: trained networks with the same input and the same classes, from an ONNX file
//! or from another supernet.

mod supernet;

use std::path::{Path, PathBuf};

use elastic_data::Batch;

use elastic_runtime::{Input, OpenError, RunError, Session};
use elastic_space::Array;
use elastic_space::file::{self, ReadError};
use elastic_space::platform::{OnnxRuntime, Runtime};
use thiserror::Error;

use crate::checkpoint::LoadError;
pub use supernet::SupernetTeacher;

/// Threads inside one operator of the teacher: a fixed number, so that a run does not depend on the machine.
const THREADS: usize = 2;

/// A network outside the supernet that gives the soft targets of distillation
/// ([Hinton et al., 2015](https://arxiv.org/abs/1503.02531)).
#[allow(clippy::large_enum_variant, reason = "a run has few, and no list holds many")]
pub enum LoadedTeacher {
    /// From an ONNX file.
    Onnx(OnnxTeacher),
    /// The largest network of a supernet.
    Supernet(SupernetTeacher),
}

/// A teacher that is an ONNX file.
pub struct OnnxTeacher {
    // Invariant: the graph takes `fixed` images of `input`, or as many as come, and gives their `classes`.
    path: PathBuf,
    session: Box<dyn Session>,
    fixed: Option<usize>,
    input: [usize; 3],
    classes: usize,
}

/// Why a teacher cannot be used.
#[derive(Debug, Error)]
pub enum TeacherError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The model cannot be loaded.
    #[error("load {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: OpenError,
    },
    /// The supernet cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The supernet is for something else.
    #[error(
        "use {}: it is of the family {found} and reads {input:?} (channels, height, width) for {classes} classes; name a \
         supernet of the same family, for the same data", path.display()
    )]
    Supernet {
        /// The file.
        path: PathBuf,
        /// Its family.
        found: &'static str,
        /// What its networks read.
        input: [usize; 3],
        /// What they tell apart.
        classes: usize,
    },
    /// The graph takes something else than images of the data's size.
    #[error(
        "use {}: its inputs are {found}, a teacher has one of {expected:?} (batch, channels, height, width); \
         choose a network for the same images",
        path.display()
    )]
    Input {
        /// The file.
        path: PathBuf,
        /// The inputs' shapes.
        found: String,
        /// The shape of a batch.
        expected: [usize; 4],
    },
    /// The graph's batch does not divide the training batch.
    #[error(
        "use {}: its batch is fixed at {found}, which does not divide training.batch-size {batch_size}; export it \
         with `elastic export --batch dynamic`",
        path.display()
    )]
    Batch {
        /// The file.
        path: PathBuf,
        /// The graph's batch.
        found: usize,
        /// Images of a step.
        batch_size: usize,
    },
    /// The graph gives something else than the classes' logits.
    #[error(
        "use {}: it gives {found} for {} images, a teacher gives {expected:?} (batch, classes); choose a network \
         with the same classes",
        path.display(), expected[0]
    )]
    Output {
        /// The file.
        path: PathBuf,
        /// The outputs' shapes.
        found: String,
        /// The shape of the logits.
        expected: [usize; 2],
    },
    /// The model failed.
    #[error("run {}: {source}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: RunError,
    },
    /// A logit is no number.
    #[error(
        "run {}: a logit of image {image} of the batch is {value}; choose a network that was trained on these images",
        path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Position of the image in the batch.
        image: usize,
        /// The logit.
        value: f32,
    },
}

impl LoadedTeacher {
    /// The classes' probabilities for each example of a batch, `[batch, classes]`; each row sums to 1.
    ///
    /// # Errors
    ///
    /// [`TeacherError`] of a model that fails, or gives no numbers.
    pub fn probabilities(&mut self, batch: &Batch) -> Result<Array, TeacherError> {
        match self {
            Self::Onnx(teacher) => teacher.probabilities(&batch.images, batch.labels.len()),
            Self::Supernet(teacher) => teacher.probabilities(batch),
        }
    }
}

impl OnnxTeacher {
    /// Loads a teacher for batches of `batch_size` images of `input` (channels, height, width), and runs it
    /// once on zeros to see that it gives one logit for each class.
    ///
    /// It runs in ONNX Runtime on the CPU. A graph whose batch is fixed sees the batch in parts.
    ///
    /// # Errors
    ///
    /// [`TeacherError`]: a file or a library that cannot be used, or a graph for other data.
    pub fn open(
        path: &Path,
        batch_size: usize,
        input: [usize; 3],
        classes: usize,
    ) -> Result<Self, TeacherError> {
        let model = file::read(path)?;
        let runtime = Runtime::OnnxRuntime(OnnxRuntime::cpu(THREADS));
        let session = elastic_runtime::open(&runtime, &model)
            .map_err(|source| TeacherError::Open { path: path.to_owned(), source })?;
        let chunk = chunk(path, session.inputs(), batch_size, input)?;
        let fixed = declared_batch(&session.inputs()[0]);
        let mut teacher = Self { path: path.to_owned(), session, fixed, input, classes };
        teacher.logits(&vec![0.0; chunk * input.iter().product::<usize>()], chunk)?;
        Ok(teacher)
    }

    /// The classes' probabilities for each image.
    ///
    /// # Shapes
    ///
    /// - images: `[count, channels, height, width]`
    /// - output: `[count, classes]`; each row sums to 1
    ///
    /// # Errors
    ///
    /// [`TeacherError::Run`], [`TeacherError::Output`], [`TeacherError::NotFinite`].
    ///
    /// # Panics
    ///
    /// If there are not `count` images, or `count` is no multiple of a fixed batch as the batch size is.
    pub fn probabilities(&mut self, images: &[f32], count: usize) -> Result<Array, TeacherError> {
        assert_eq!(images.len(), count * self.input.iter().product::<usize>(), "`count` images of the input");
        let data = self.logits(images, count)?;
        probabilities(&self.path, Array { shape: vec![count, self.classes], data })
    }

    /// The logits of each image, `[count, classes]`.
    fn logits(&mut self, images: &[f32], count: usize) -> Result<Vec<f32>, TeacherError> {
        let [channels, height, width] = self.input;
        let chunk = self.fixed.unwrap_or(count);
        assert_eq!(count % chunk, 0, "a fixed batch divides the batch size");
        let expected = [chunk, self.classes];
        let mut logits = Vec::with_capacity(count * self.classes);
        for part in images.chunks_exact(chunk * channels * height * width) {
            let array = Array { shape: vec![chunk, channels, height, width], data: part.to_vec() };
            let outputs = self
                .session
                .run(&[array])
                .map_err(|source| TeacherError::Run { path: self.path.clone(), source })?;
            match outputs.as_slice() {
                [output] if output.shape == expected => logits.extend_from_slice(&output.data),
                _ => {
                    let shapes: Vec<String> = outputs.iter().map(|o| format!("{:?}", o.shape)).collect();
                    let found = shapes.join(" and ");
                    return Err(TeacherError::Output { path: self.path.clone(), found, expected });
                }
            }
        }
        Ok(logits)
    }
}

/// How many images one run takes: all of a batch, or as many as the graph has fixed.
fn chunk(
    path: &Path,
    inputs: &[Input],
    batch_size: usize,
    [channels, height, width]: [usize; 3],
) -> Result<usize, TeacherError> {
    let chunk = inputs.first().and_then(declared_batch).unwrap_or(batch_size);
    match inputs {
        [input] if input.accepts(&[chunk, channels, height, width]) => {}
        _ => {
            let shapes: Vec<String> = inputs.iter().map(Input::describe).collect();
            let found = shapes.join(" and ");
            let expected = [batch_size, channels, height, width];
            return Err(TeacherError::Input { path: path.to_owned(), found, expected });
        }
    }
    if chunk == 0 || !batch_size.is_multiple_of(chunk) {
        return Err(TeacherError::Batch { path: path.to_owned(), found: chunk, batch_size });
    }
    Ok(chunk)
}

/// The batch that a graph has fixed.
fn declared_batch(input: &Input) -> Option<usize> {
    *input.shape.as_ref()?.first()?
}

/// The logits of a file's network to probabilities.
fn probabilities(path: &Path, mut logits: Array) -> Result<Array, TeacherError> {
    let classes = logits.shape[1];
    for (image, row) in logits.data.chunks_exact_mut(classes).enumerate() {
        if let Some(&value) = row.iter().find(|value| !value.is_finite()) {
            return Err(TeacherError::NotFinite { path: path.to_owned(), image, value });
        }
        softmax(row);
    }
    Ok(logits)
}

/// Logits to probabilities, without overflow.
fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}
