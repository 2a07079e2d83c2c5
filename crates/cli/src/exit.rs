//! Exit codes: stable, so that pipelines can act on them.

use std::process::ExitCode;

use elastic_exporter::search::SearchError;
use elastic_profiler::agent::RemoteError;
use elastic_profiler::agent::protocol::FailureKind;
use elastic_profiler::{IdentityMismatch, NotMeasured, ProfileError};
use elastic_runtime::{LibraryError, OpenError};
use thiserror::Error;

const FAILURE: u8 = 1;
const INFEASIBLE_BUDGET: u8 = 3;
const NOT_THE_PLATFORM: u8 = 4;
const VERIFICATION_FAILED: u8 = 5;
const LIBRARY_MISSING: u8 = 6;
const OTHER_PROVIDER: u8 = 7;

/// A model that does not compute what its supernet computes.
#[derive(Debug, Error)]
#[error(
    "verification failed in {runtime}: largest difference {difference:.2e} (allowed {tolerance:.0e}), same top-1 on {same} of {samples} images"
)]
pub(crate) struct VerificationFailed {
    pub(crate) runtime: String,
    pub(crate) difference: f64,
    pub(crate) tolerance: f64,
    pub(crate) same: usize,
    pub(crate) samples: usize,
}

/// No candidate of the search held a budget when it was measured.
#[derive(Debug, Error)]
#[error(
    "no candidate of the search holds {budget} when measured on {platform}: the best of {tried} took {best}{note}; raise the budget, or profile more subnets with: elastic profile --platform {platform} --subnets N"
)]
pub(crate) struct BudgetMissed {
    pub(crate) budget: String,
    pub(crate) platform: String,
    pub(crate) tried: usize,
    pub(crate) best: String,
    /// Why that may be, or nothing.
    pub(crate) note: String,
}

/// The subnet that a user names is over a budget.
#[derive(Debug, Error)]
#[error(
    "subnet `{subnet}` costs {cost}, over the budget {budget}: raise the budget, or leave out --subnet to search one that holds it"
)]
pub(crate) struct SubnetOverBudget {
    pub(crate) subnet: String,
    pub(crate) cost: String,
    pub(crate) budget: String,
}

/// The exit code of an error: that of the first cause that has one.
pub(crate) fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(error.chain().find_map(code_of).unwrap_or(FAILURE))
}

/// The error and its causes in one line; a cause whose text its error already holds is left out.
pub(crate) fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        if line.is_empty() {
            cause
        } else if line.contains(&cause) {
            line
        } else {
            format!("{line}: {cause}")
        }
    })
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(SearchError::<anyhow::Error>::Infeasible { .. }) = cause.downcast_ref() {
        return Some(INFEASIBLE_BUDGET);
    }
    if cause.is::<BudgetMissed>() || cause.is::<SubnetOverBudget>() {
        return Some(INFEASIBLE_BUDGET);
    }
    if cause.is::<VerificationFailed>() {
        return Some(VERIFICATION_FAILED);
    }
    if cause.is::<IdentityMismatch>() {
        return Some(NOT_THE_PLATFORM);
    }
    if cause.is::<LibraryError>() {
        return Some(LIBRARY_MISSING);
    }
    if let Some(error) = cause.downcast_ref::<OpenError>() {
        return open_code(error);
    }
    if let Some(error) = cause.downcast_ref::<NotMeasured>() {
        return measure_code(error);
    }
    if let Some(ProfileError::NotMeasured(error)) = cause.downcast_ref() {
        return measure_code(error);
    }
    None
}

fn measure_code(error: &NotMeasured) -> Option<u8> {
    match error {
        NotMeasured::Runtime(error) => open_code(error),
        NotMeasured::OtherProvider { .. }
        | NotMeasured::Remote(RemoteError::Refused { kind: FailureKind::Provider, .. }) => {
            Some(OTHER_PROVIDER)
        }
        error => error.is_device_missing().then_some(NOT_THE_PLATFORM),
    }
}

fn open_code(error: &OpenError) -> Option<u8> {
    match error {
        OpenError::Library(_) => Some(LIBRARY_MISSING),
        OpenError::ProviderMissing { .. } | OpenError::ProviderFailed { .. } => Some(NOT_THE_PLATFORM),
        _ => None,
    }
}
