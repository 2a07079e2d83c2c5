//! What a subnet costs, as far as it follows from its shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters and multiply-accumulates of one subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Learned values.
    pub params: u64,
    /// Multiply-accumulates for one input.
    pub macs: u64,
}

impl Cost {
    /// Floating-point operations for one input: 1 MAC = 2 FLOPs.
    pub fn flops(self) -> u64 {
        2 * self.macs
    }

    /// Bytes of the 32-bit weights, without the file's own structure.
    pub fn weight_bytes(self) -> u64 {
        4 * self.params
    }
}
