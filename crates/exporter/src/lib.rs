//! Searches a space and writes verified ONNX files
