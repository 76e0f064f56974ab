"""A whole table at once: CSV in, the same table with the answers in more columns out."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Final

import structlog
from flask import request

from apps.shell.models import begin_prediction, fail_prediction
from portico.serving.answers import Answer, ClassAnswer, ValueAnswer, answers_of
from portico.serving.codecs.rows import tensors_from_csv
from portico.serving.errors import InvalidInput, ModelFailed
from portico.serving.signature import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.serving.predictions import Prediction
    from portico.serving.service import ServedModel
    from portico.serving.signature import Signature

log = structlog.get_logger(__name__)

MAX_ROWS: Final = 10_000
"""A larger table is a job for a program."""

SHOWN_ROWS: Final = 200
"""So many rows are shown on the page; the download has all."""

_AT_ONCE: Final = 500
"""Rows of one run, so that a table does not keep others from their turn."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A table with its answers.

    Attributes:
        header: of the uploaded table, then of the answers.
        rows: cells in that order.
        answer_columns: how many of the columns are answers.
    """

    header: list[str]
    rows: list[list[str]]
    answer_columns: int

    @property
    def shown(self) -> list[list[str]]:
        """The rows that the page shows, the answers first."""
        return [self._answers_first(row) for row in self.rows[:SHOWN_ROWS]]

    @property
    def shown_header(self) -> list[str]:
        """The header in the order of :attr:`shown`."""
        return self._answers_first(self.header)

    def as_csv(self) -> str:
        """Return the table as CSV (RFC 4180)."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.header, *self.rows])
        return text.getvalue()

    def _answers_first(self, cells: list[str]) -> list[str]:
        return cells[-self.answer_columns :] + cells[: -self.answer_columns]


def takes_tables(signature: Signature) -> bool:
    """Tell whether a row of the model fits into a CSV file."""
    return all(f.kind not in (Kind.IMAGE, Kind.TENSOR) for f in signature.features)


def read_table() -> str:
    """Return the text of the uploaded file.

    Raises:
        InvalidInput: there is none, or it is no UTF-8 text.
    """
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        raise InvalidInput.at("file", "is missing; choose a CSV file")
    try:
        return str(upload.read(), "utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput.at("file", "is not UTF-8 text; save the table as “CSV UTF-8”") from None


def score(served: ServedModel, text: str) -> Scored:
    """Ask the model about each row of a table.

    Raises:
        InvalidInput: more than :data:`MAX_ROWS` rows, or the table does not fit; by line and
            column.
        ServingError: the model could not answer.
    """
    prediction = begin_prediction(served, request.environ)
    try:
        scored = _scored(served, prediction, text)
    except Exception as error:
        fail_prediction(served, prediction, error)
        if isinstance(error, ModelFailed):
            log.error("model_raised", model=served.name, exc_info=error.__cause__)
        raise
    served.complete(prediction)
    return scored


def _scored(served: ServedModel, prediction: Prediction, text: str) -> Scored:
    started = perf_counter()
    _refuse_long(text)
    prediction.inputs = tensors_from_csv(served.signature, text)
    prediction.decode = perf_counter() - started
    outputs = served.infer_rows(prediction, min(_AT_ONCE, served.card.limits.queue_rows))
    ran = perf_counter()
    scored = _joined(text, served.signature, answers_of(served.signature, outputs))
    prediction.encode = perf_counter() - ran
    return scored


def _refuse_long(text: str) -> None:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = sum(1 for cells in islice(reader, 2 * MAX_ROWS) if cells)
    except csv.Error:
        return  # The decoder, which comes next, tells where.
    if lines > MAX_ROWS + 1:
        raise InvalidInput.at("file", f"has more than {MAX_ROWS:,} rows; split it")


def _joined(text: str, signature: Signature, answers: Sequence[Answer]) -> Scored:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines = [cells for cells in reader if cells]
    header = [name.strip() for name in lines[0]]
    columns = _answer_header(answers[0], signature)
    rows = [
        [*cells, *_answer_cells(answer)] for cells, answer in zip(lines[1:], answers, strict=True)
    ]
    return Scored([*header, *_unused(columns, header)], rows, len(columns))


def _answer_header(answer: Answer, signature: Signature) -> list[str]:
    match answer:
        case ClassAnswer():
            return (
                ["prediction", "probability"] if answer.probability is not None else ["prediction"]
            )
        case ValueAnswer():
            return ["prediction"]
        case _:
            return [spec.name for spec in signature.outputs]


def _answer_cells(answer: Answer) -> list[str]:
    match answer:
        case ClassAnswer():
            share = [] if answer.probability is None else [f"{answer.probability:.6g}"]
            return [answer.label, *share]
        case ValueAnswer():
            return ["" if answer.value is None else f"{answer.value:.10g}"]
        case _:
            return [json.dumps(value) for value in answer.outputs.values()]


def _unused(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return the names, each changed until the table has no column of that name."""
    found = []
    for name in names:
        free = name
        while free in taken:
            free = f"model {free}"
        found.append(free)
    return found
