"""From a submitted form to the answer beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

import structlog
from flask import request

from apps.shell.models import begin_prediction, fail_prediction
from apps.ui.fields import problems_by_feature
from portico.serving.answers import Answer, ClassAnswer, TensorAnswer, ValueAnswer, answers_of
from portico.serving.codecs.rows import tensors_from_form
from portico.serving.errors import InvalidInput, ModelFailed, Problem, ServingError
from portico.serving.signature import Kind

if TYPE_CHECKING:
    from portico.serving.predictions import Prediction
    from portico.serving.service import ServedModel
    from portico.serving.tensors import Tensors

log = structlog.get_logger(__name__)

_SHOWN_CHARACTERS: Final = 4000
"""So much of an array is shown; programs read the rest through the API."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The picture that was asked about, small.

    Attributes:
        url: a ``data:`` URL, so that the answer needs nothing that the server keeps.
        name: its file name.
        is_tiny: whether single pixels should be shown as squares.
    """

    url: str
    name: str
    is_tiny: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model answered, ready to be shown.

    Attributes:
        answer: a class, a value or arrays.
        milliseconds: from the form to the answer.
        picture: what was asked about; None where it was no picture.
    """

    answer: Answer
    milliseconds: float
    picture: Thumbnail | None = None

    @property
    def kind(self) -> str:
        """``class``, ``value`` or ``arrays``."""
        match self.answer:
            case ClassAnswer():
                return "class"
            case ValueAnswer():
                return "value"
            case _:
                return "arrays"

    @property
    def bars(self) -> list[tuple[str, float]]:
        """The likeliest classes with their probabilities."""
        return (
            list(self.answer.probabilities.items()) if isinstance(self.answer, ClassAnswer) else []
        )

    @property
    def arrays(self) -> list[tuple[str, str]]:
        """Name and JSON text of each output, cut short."""
        if not isinstance(self.answer, TensorAnswer):
            return []
        texts = {name: json.dumps(value) for name, value in self.answer.outputs.items()}
        return [(name, _shortened(text)) for name, text in texts.items()]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a form: values as they were sent, and an answer or an error."""

    values: dict[str, str]
    reply: Reply | None = None
    error: ServingError | None = None
    problems: dict[str, str] = field(default_factory=dict)

    def other_problems(self) -> list[Problem]:
        """Return the problems that belong to no field."""
        if self.error is None:
            return []
        shown = {(name, problem) for name, problem in self.problems.items()}
        return [detail for detail in self.error.details if tuple(detail) not in shown]


def ask(served: ServedModel) -> Outcome:
    """Ask the model what the current request's form holds."""
    signature = served.signature
    values = {f.name: request.form.get(f.name, "") for f in signature.features}
    prediction = begin_prediction(served, request.environ)
    started = perf_counter()
    try:
        answers, picture = _answers(served, prediction)
    except ServingError as error:
        served.fail(prediction, error)
        if isinstance(error, ModelFailed):
            log.error("model_raised", model=served.name, exc_info=error.__cause__)
        problems = problems_by_feature(signature, error.details)
        return Outcome(values, error=error, problems=problems)
    except Exception as error:
        fail_prediction(served, prediction, error)
        raise
    served.complete(prediction)
    milliseconds = (perf_counter() - started) * 1000
    return Outcome(values, Reply(answers[0], milliseconds, _thumbnail(picture)))


def _answers(
    served: ServedModel, prediction: Prediction
) -> tuple[list[Answer], tuple[bytes, str] | None]:
    """Return the answers to the form, and the picture's bytes and name if there is one."""
    started = perf_counter()
    prediction.inputs, picture = _tensors(served)
    prediction.decode = perf_counter() - started
    outputs = served.infer_rows(prediction)
    ran = perf_counter()
    answers = answers_of(served.signature, outputs)
    prediction.encode = perf_counter() - ran
    return answers, picture


def _tensors(served: ServedModel) -> tuple[Tensors, tuple[bytes, str] | None]:
    """Collect what is wrong with the picture and with the other fields at once."""
    problems: list[Problem] = []
    tensors: Tensors = {}
    picture: tuple[bytes, str] | None = None
    try:
        tensors = tensors_from_form(served.signature, request.form)
    except InvalidInput as error:
        problems += error.details
    if served.signature.image:
        try:
            more, picture = _picture(served)
            tensors |= more
        except InvalidInput as error:
            problems += error.details
    if problems:
        raise InvalidInput.of(problems)
    return tensors, picture


def _picture(served: ServedModel) -> tuple[Tensors, tuple[bytes, str]]:
    from portico.serving.codecs.images import tensor_from_image

    feature = next(f for f in served.signature.features if f.kind is Kind.IMAGE)
    upload = request.files.get(feature.name)
    if upload is None or not upload.filename:
        raise InvalidInput.at(feature.name, "is missing; choose a picture")
    data = upload.read()
    spec = served.signature.input_by_name[feature.tensor]
    card = served.card.image
    if card is None:
        raise TypeError("a picture feature comes from a card with [image]")
    return {feature.tensor: tensor_from_image(data, spec, card, feature.name)}, (
        data,
        upload.filename,
    )


def _thumbnail(picture: tuple[bytes, str] | None) -> Thumbnail | None:
    if picture is None:
        return None
    from apps.ui.thumbnails import thumbnail_url

    data, name = picture
    url, is_tiny = thumbnail_url(data)
    return Thumbnail(url, name, is_tiny) if url else None


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} …"
