//! A subnet: one choice of every elastic dimension.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bert::BertSubnet;
use crate::conv::ConvSubnet;
use crate::swin::SwinSubnet;
use crate::vit::VitSubnet;

/// The key under which an exported file holds its subnet, as JSON.
pub const METADATA_KEY: &str = "elastic.subnet";

/// A choice of every elastic dimension, in real widths (not ratios).
///
/// Layers that are left out do not appear, so equal networks are equal subnets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subnet {
    /// A vision transformer.
    Vit(VitSubnet),
    /// A convolutional network.
    Conv(ConvSubnet),
    /// A Swin transformer.
    Swin(SwinSubnet),
    /// A BERT encoder.
    Bert(BertSubnet),
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vit(subnet) => subnet.fmt(f),
            Self::Conv(subnet) => subnet.fmt(f),
            Self::Swin(subnet) => subnet.fmt(f),
            Self::Bert(subnet) => subnet.fmt(f),
        }
    }
}
