"""Serving models: signatures, tensors, the catalogue, the prediction service."""
