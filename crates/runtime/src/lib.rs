//! Runs an ONNX graph through ONNX Runtime or tract
