//! One file a family: the largest network and its forward pass for a given subnet.

pub mod vit;
