//! Measures subnets on a device and fits latency models
