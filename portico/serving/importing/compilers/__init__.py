"""Compilers to ONNX, one for each library that trains models."""
