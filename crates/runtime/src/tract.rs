//! Runs a model through tract, in pure Rust on one thread.

pub(crate) mod runner;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use elastic_space::Array;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, NodeProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::{DimFact, Factoid};
use tract_onnx::tract_hir::internal::DimLike;

use crate::element::Element;
use crate::session::{Input, OpenError, RunError, Session, check_inputs};

/// The version of the `tract-onnx` crate that the workspace is built with; a test holds it against
/// the lock file.
const VERSION: &str = "0.23.9";

/// A model in tract.
pub(crate) struct TractSession {
    model: InferenceModel,
    inputs: Vec<Input>,
    /// The type of each input's values.
    types: Vec<DatumType>,
    /// The plan of the shapes that ran last. A model whose shapes are all fixed has it from the start.
    plan: Option<Plan>,
}

/// The model made ready for inputs of certain shapes.
struct Plan {
    shapes: Vec<Vec<usize>>,
    runnable: Arc<TypedRunnableModel>,
}

impl TractSession {
    /// Loads a model; where its shapes are fixed, makes it ready to run.
    pub(crate) fn open(model: &[u8]) -> Result<Self, OpenError> {
        let refused = |reason| OpenError::Model { runtime: version(), reason };
        let (proto, model) = read(model)?;
        let declared = inputs(&model)?;
        for (input, found) in &declared {
            if !input.element.is_taken() {
                return Err(OpenError::NotFloat { name: input.name.clone(), found: format!("{found:?}") });
            }
        }
        let (inputs, types): (Vec<Input>, Vec<DatumType>) = declared.into_iter().unzip();
        // tract knows an output's type only once all shapes are fixed; the file declares it.
        proto.graph.iter().flat_map(|graph| &graph.output).try_for_each(output_is_float)?;
        let fixed: Option<Vec<Vec<usize>>> = inputs.iter().map(Input::fixed_shape).collect();
        let plan = fixed.map(|shapes| plan(&model, &types, shapes)).transpose().map_err(refused)?;
        Ok(Self { model, inputs, types, plan })
    }
}

impl Session for TractSession {
    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn run(&mut self, inputs: &[Array]) -> Result<Vec<Array>, RunError> {
        check_inputs(&self.inputs, inputs)?;
        let failed = |reason| RunError::Failed { runtime: version(), reason };
        let shapes = || inputs.iter().map(|array| &array.shape);
        // Taken out, so that a plan in which a run panicked is not used again.
        let plan = match self.plan.take().filter(|plan| plan.shapes.iter().eq(shapes())) {
            Some(plan) => plan,
            None => plan(&self.model, &self.types, shapes().cloned().collect()).map_err(failed)?,
        };
        let outputs = guarded(|| run(&plan.runnable, &self.types, inputs)).map_err(failed)?;
        self.plan = Some(plan);
        Ok(outputs)
    }
}

/// Refuses an operator that is not of the ONNX standard: tract looks operators up by their name alone, and would take
/// it for the standard's of the same name.
fn is_standard(node: &NodeProto) -> Result<(), String> {
    match node.domain.as_str() {
        "" | "ai.onnx" | "ai.onnx.ml" => Ok(()),
        domain => {
            Err(format!("tract does not know the operator {domain}.{} of `{}`", node.op_type, node.name))
        }
    }
}

/// `tract` and its version.
pub(crate) fn version() -> String {
    format!("tract {VERSION}")
}

/// Reads a model, as a message and as tract's.
fn read(model: &[u8]) -> Result<(ModelProto, InferenceModel), OpenError> {
    let refused = |reason| OpenError::Model { runtime: version(), reason };
    let proto = guarded(|| tract_onnx::onnx().proto_model_for_read(&mut &*model)).map_err(refused)?;
    proto.graph.iter().flat_map(|graph| &graph.node).try_for_each(is_standard).map_err(refused)?;
    // Declared shapes of inner values hold the batch's symbol, which tract does not unify with the
    // size of a run; it infers them all itself.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let model = guarded(|| onnx.model_for_proto_model(&proto)).map_err(refused)?;
    Ok((proto, model))
}

/// Makes a model ready for inputs of these shapes.
fn plan(model: &InferenceModel, types: &[DatumType], shapes: Vec<Vec<usize>>) -> Result<Plan, String> {
    let runnable = guarded(|| {
        let mut model = model.clone();
        for (index, (datum_type, shape)) in types.iter().zip(&shapes).enumerate() {
            model.set_input_fact(index, datum_type.fact(shape).into())?;
        }
        model.into_optimized()?.into_runnable()
    })?;
    Ok(Plan { shapes, runnable })
}

fn run(runnable: &Arc<TypedRunnableModel>, types: &[DatumType], inputs: &[Array]) -> TractResult<Vec<Array>> {
    let values = types
        .iter()
        .zip(inputs)
        .map(|(&datum_type, array)| Ok(runner::value(datum_type, array)?.into_tvalue()))
        .collect::<TractResult<TVec<TValue>>>()?;
    let outputs = runnable.run(values)?;
    let arrays = outputs.iter().map(|value| {
        let view = value.to_plain_array_view::<f32>()?;
        Ok(Array { shape: view.shape().to_vec(), data: view.iter().copied().collect() })
    });
    arrays.collect()
}

/// The graph's inputs, each with tract's type of its values.
fn inputs(model: &InferenceModel) -> Result<Vec<(Input, DatumType)>, OpenError> {
    let unreadable =
        |error: TractError| OpenError::Model { runtime: version(), reason: format!("{error:#}") };
    let outlets = model.input_outlets().map_err(unreadable)?;
    let mut inputs = Vec::with_capacity(outlets.len());
    for outlet in outlets {
        let fact = model.outlet_fact(*outlet).map_err(unreadable)?;
        let name = model.node(outlet.node).name.clone();
        // A type that the file leaves open is taken for the usual one.
        let datum_type = fact.datum_type.concretize().unwrap_or(DatumType::F32);
        let Some(element) = element(datum_type) else {
            return Err(OpenError::NoTensor { name, found: format!("{datum_type:?}") });
        };
        let shape = (!fact.shape.is_open()).then(|| {
            let size = |dim: &DimFact| dim.concretize()?.to_usize().ok();
            fact.shape.dims().map(size).collect()
        });
        inputs.push((Input { name, element, shape }, datum_type));
    }
    Ok(inputs)
}

fn element(datum_type: DatumType) -> Option<Element> {
    Some(match datum_type {
        DatumType::F16 => Element::Float16,
        DatumType::F32 => Element::Float32,
        DatumType::F64 => Element::Float64,
        DatumType::I8 => Element::Int8,
        DatumType::I16 => Element::Int16,
        DatumType::I32 => Element::Int32,
        DatumType::I64 => Element::Int64,
        DatumType::U8 => Element::Uint8,
        DatumType::U16 => Element::Uint16,
        DatumType::U32 => Element::Uint32,
        DatumType::U64 => Element::Uint64,
        DatumType::Bool => Element::Bool,
        _ => return None,
    })
}

/// Refuses an output that is declared as something else than 32-bit floats.
fn output_is_float(output: &ValueInfoProto) -> Result<(), OpenError> {
    let Some(type_proto::Value::TensorType(tensor)) =
        output.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    else {
        return Ok(());
    };
    match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Float | DataType::Undefined) => Ok(()),
        Ok(other) => {
            Err(OpenError::NotFloat { name: output.name.clone(), found: other.as_str_name().to_lowercase() })
        }
        Err(unknown) => Err(OpenError::NotFloat { name: output.name.clone(), found: unknown.to_string() }),
    }
}

/// Runs a part of tract; a panic in it, which graphs that it does not know can set off, becomes an error.
fn guarded<T>(part: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(part)) {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("tract panicked: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock").replace("\r\n", "\n");
        assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{VERSION}\"\n")), "not {VERSION}");
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let found = guarded::<()>(|| panic!("row {}", 7)).expect_err("it panics");
        assert_eq!(found, "tract panicked: row 7");
    }
}
