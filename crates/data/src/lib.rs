//! Data sets and augmentation
