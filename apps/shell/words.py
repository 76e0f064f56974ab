"""What a model takes and gives, in words and links that several apps show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from portico.serving.signature import AnswerKind, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.signature import Signature

_FEW: Final = 4
"""So many labels are named; of more, only their number is told."""


def model_path(name: str, version: str | None = None, tab: str = "") -> str:
    """Return the path of a model's page from the gateway's root, percent-encoded.

    Args:
        name: of the model.
        version: None for the current one.
        tab: one of the page's tabs; empty for the form.
    """
    parts = ["", "ui", "models", quote(name, safe="")]
    if version is not None:
        parts += ["versions", quote(version, safe="")]
    return "/".join([*parts, tab] if tab else parts)


def takes_in_words(signature: Signature) -> str:
    """Say what one question to the model holds, such as ``3 numbers and 1 text``."""
    counts = {word: sum(1 for f in signature.features if f.kind in kinds) for word, kinds in _WORDS}
    words = [f"{n} {word if n == 1 else _PLURALS[word]}" for word, n in counts.items() if n]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def gives_in_words(signature: Signature) -> str:
    """Say what the model answers, such as ``one of setosa, versicolor, virginica``."""
    answer = signature.answer
    if answer.kind is AnswerKind.REGRESSION:
        return f"a value in {answer.unit}" if answer.unit else "a value"
    if answer.kind is AnswerKind.TENSORS:
        return f"{len(signature.outputs)} array{'s' if len(signature.outputs) != 1 else ''}"
    labels: Sequence[str] = answer.labels or [str(value) for value in answer.classes]
    if not labels:
        return "a class"
    return f"one of {', '.join(labels) if len(labels) <= _FEW else f'{len(labels)} classes'}"


_WORDS: Final = (
    ("picture", (Kind.IMAGE,)),
    ("number", (Kind.NUMBER, Kind.INTEGER)),
    ("text", (Kind.TEXT,)),
    ("yes or no", (Kind.BOOLEAN,)),
    ("array", (Kind.TENSOR,)),
)
_PLURALS: Final = {
    "picture": "pictures",
    "number": "numbers",
    "text": "texts",
    "yes or no": "yes or no",
    "array": "arrays",
}
