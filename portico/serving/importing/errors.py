"""What can go wrong when a model is imported."""

from __future__ import annotations


class CannotCompile(Exception):
    """The model has no equal in ONNX; the message is a sentence for a person.

    It is no failure of the import: the model is then served as it is.
    """
