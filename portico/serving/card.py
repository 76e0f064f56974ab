"""``model.toml``: what a person adds to a model that the artefact cannot know."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from portico.serving.artefacts import CARD_NAME
from portico.serving.errors import ArtefactError
from portico.serving.signature import (
    AnswerKind,
    AnswerSpec,
    Choice,
    Feature,
    Kind,
    Scalar,
    Scores,
    Signature,
)

if TYPE_CHECKING:
    from pathlib import Path

Positive = Annotated[int, msgspec.Meta(ge=1)]


class FeatureCard(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Meaning of one feature; every key is optional.

    ``choices`` is a list of values or a table from value to label; ``open = true`` makes the
    choices suggestions instead of the only values allowed.
    """

    title: str = ""
    description: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: list[str | float | int] | dict[str, str] = msgspec.field(default_factory=list)
    open: bool = False
    default: str | float | int | bool | None = None
    optional: bool | None = None


class AnswerCard(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How the answer reads: its title and unit, the class labels, how many are shown."""

    kind: AnswerKind | None = None
    title: str = ""
    unit: str = ""
    labels: list[str] = msgspec.field(default_factory=list)
    labels_file: str | None = None
    scores: Scores | None = None
    top: Positive = 5


class ImageCard(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """From picture to tensor, in this order: orientation, resize, crop, colour, scale, normalise.

    Attributes:
        resize: length of the shorter side in pixels, or [height, width]; None keeps the size.
        crop: centre crop in pixels, side of a square or [height, width]; None crops nothing.
        color: order of the channels; ``L`` is one channel of grey.
        scale: range of a channel before ``mean`` and ``std``: 0..1 or 0..255.
        mean: subtracted from each channel, in the unit of ``scale``.
        std: divides each channel afterwards.
        layout: order of the axes of one picture.
        invert: whether dark strokes on light paper become light strokes on dark.
    """

    # No constrained int here: msgspec 0.22 reads past the type where one stands beside a tuple.
    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    color: Literal["RGB", "BGR", "L"] = "RGB"
    scale: Literal["0..1", "0..255"] = "0..1"
    mean: list[float] = msgspec.field(default_factory=list)
    std: list[float] = msgspec.field(default_factory=list)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    invert: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that no picture has."""
        for key, size in (("resize", self.resize), ("crop", self.crop)):
            if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
                raise ValueError(f"`{key}` must be at least 1 pixel")


class LimitsCard(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What one worker lets this model hold.

    Attributes:
        queue_rows: rows that may wait at once; more are refused with 503.
        concurrency: runs at once; None leaves it to the runtime and the number of threads.
        deadline: seconds that a request may wait for its turn; later is 504.
    """

    queue_rows: Positive = 4096
    concurrency: Positive | None = None
    deadline: Annotated[float, msgspec.Meta(gt=0)] = 30.0


class LogCard(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the prediction log keeps of this model.

    Attributes:
        enabled: whether its predictions are logged at all.
        inputs: whether inputs and outputs are kept; without, the log knows who, when and how long.
        max_bytes: of the inputs and outputs of one request; larger ones are left out.
    """

    enabled: bool = True
    inputs: bool = True
    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * 1024


class BatchingCard(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Whether rows of several requests may run together, and how many.

    Attributes:
        enabled: false keeps every request by itself.
        max_rows: of one run; a request with more runs by itself.
    """

    enabled: bool = True
    max_rows: Positive = 64


class ModelCard(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole of ``model.toml``; every key is optional."""

    title: str = ""
    description: str = ""
    feature_names: list[str] = msgspec.field(default_factory=list)
    features: dict[str, FeatureCard] = msgspec.field(default_factory=dict)
    answer: AnswerCard = msgspec.field(default_factory=AnswerCard)
    image: ImageCard | None = None
    limits: LimitsCard = msgspec.field(default_factory=LimitsCard)
    log: LogCard = msgspec.field(default_factory=LogCard)
    batching: BatchingCard = msgspec.field(default_factory=BatchingCard)


def read_card(folder: Path) -> ModelCard:
    """Read ``model.toml`` and the labels file it names from a model's folder.

    Raises:
        ArtefactError: the file is not TOML, or a key is unknown or of the wrong type.
    """
    path = folder / CARD_NAME
    try:
        card = msgspec.toml.decode(path.read_bytes(), type=ModelCard)
    except FileNotFoundError:
        return ModelCard()
    except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{CARD_NAME} of '{folder.name}': {error}") from error
    if card.answer.labels_file is None:
        return card
    labels = _read_labels(folder, card.answer.labels_file)
    return msgspec.structs.replace(card, answer=msgspec.structs.replace(card.answer, labels=labels))


def _read_labels(folder: Path, name: str) -> list[str]:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArtefactError(f"labels_file '{name}' lies outside the model's folder")
    return read_labels(path)


def read_labels(path: Path) -> list[str]:
    """Read one label a line, a JSON list, or a JSON object from index to label.

    Raises:
        ArtefactError: the file cannot be read, or its keys are no class indexes.
    """
    name = path.name
    try:
        if path.suffix != ".json":
            lines = path.read_text("utf-8-sig").splitlines()
            return [line.strip() for line in lines if line.strip()]
        labels = msgspec.json.decode(path.read_bytes(), type=list[str] | dict[str, Any])
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ArtefactError(f"labels_file '{name}' cannot be read: {error}") from error
    if isinstance(labels, list):
        return labels
    ordered = [(index, labels.get(str(index))) for index in range(len(labels))]
    if any(value is None for _, value in ordered):
        raise ArtefactError(
            f"labels_file '{name}': the keys must be the class indexes 0 to {len(labels) - 1}"
        )
    # Some published ImageNet files pair each name with its WordNet id: ["n01440764", "tench"].
    return [str(v[-1]) if isinstance(v, list) and v else str(v) for _, v in ordered]


def describe(signature: Signature, card: ModelCard) -> Signature:
    """Add what the card says to the signature that the artefact gave.

    Raises:
        ArtefactError: the card names a feature that the model lacks, or labels do not fit.
    """
    features = _named(signature, card.feature_names)
    known = [feature.name for feature in features]
    for name in card.features:
        if name not in known:
            raise ArtefactError(
                f"{CARD_NAME} describes a feature '{name}'; the model has: {', '.join(known)}"
            )
    features = tuple(
        _described(feature, card.features[feature.name])
        if feature.name in card.features
        else feature
        for feature in features
    )
    return dataclasses.replace(signature, features=features, answer=_answer(signature, card.answer))


def _named(signature: Signature, names: list[str]) -> tuple[Feature, ...]:
    """Give the columns of the one matrix input the card's names, where it has any."""
    if not names:
        return signature.features
    if len(signature.features) != len(names) or len(set(names)) != len(names):
        raise ArtefactError(
            f"{CARD_NAME} gives {len(set(names))} different feature_names; "
            f"the model has {len(signature.features)} features"
        )
    return tuple(
        dataclasses.replace(feature, name=name)
        for feature, name in zip(signature.features, names, strict=True)
    )


def _described(feature: Feature, card: FeatureCard) -> Feature:
    choices = _choices(feature, card)
    default = card.default
    if default is not None:
        default = _as_kind(feature, default, "default")
    described = dataclasses.replace(
        feature,
        title=card.title or feature.title,
        description=card.description or feature.description,
        unit=card.unit or feature.unit,
        minimum=feature.minimum if card.minimum is None else card.minimum,
        maximum=feature.maximum if card.maximum is None else card.maximum,
        step=feature.step if card.step is None else card.step,
        choices=choices or feature.choices,
        closed=not card.open if choices else feature.closed and not card.open,
        default=feature.default if default is None else default,
        optional=feature.optional if card.optional is None else card.optional,
    )
    _check_sense(described)
    return described


def _check_sense(feature: Feature) -> None:
    """Refuse a range that nothing lies in, and a default that the model would not take."""
    low, high, default = feature.minimum, feature.maximum, feature.default
    if low is not None and high is not None and low > high:
        raise ArtefactError(
            f"{CARD_NAME}: feature '{feature.name}' has minimum {low:g} above maximum {high:g}"
        )
    number = default if feature.kind in (Kind.NUMBER, Kind.INTEGER) else None
    if isinstance(number, int | float) and not (
        (low is None or low <= number) and (high is None or number <= high)
    ):
        raise ArtefactError(
            f"{CARD_NAME}: default {number:g} of feature '{feature.name}' is not "
            f"{feature.range_text}"
        )
    allowed = [choice.value for choice in feature.choices]
    if default is not None and allowed and feature.closed and default not in allowed:
        raise ArtefactError(
            f"{CARD_NAME}: default {default!r} of feature '{feature.name}' is none of its choices"
        )


def _choices(feature: Feature, card: FeatureCard) -> tuple[Choice, ...]:
    pairs = (
        card.choices.items()
        if isinstance(card.choices, dict)
        else [(value, str(value)) for value in card.choices]
    )
    return tuple(Choice(_as_kind(feature, value, "choices"), label) for value, label in pairs)


def _as_kind(feature: Feature, value: Scalar, key: str) -> Scalar:
    """Turn a value of the card into what the feature holds; TOML table keys are always text."""
    wrong = ArtefactError(
        f"{CARD_NAME}: {key} of feature '{feature.name}': {value!r} is no {feature.kind}"
    )
    if feature.kind is Kind.BOOLEAN:
        if str(value).lower() not in ("true", "false"):
            raise wrong
        return str(value).lower() == "true"
    if feature.kind not in (Kind.NUMBER, Kind.INTEGER):
        return str(value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(number) or (feature.kind is Kind.INTEGER and number != int(number)):
        raise wrong
    if feature.kind is Kind.NUMBER:
        return number
    return value if isinstance(value, int) else int(number)


def _answer(signature: Signature, card: AnswerCard) -> AnswerSpec:
    answer = signature.answer
    if card.labels and answer.kind is not AnswerKind.CLASSIFICATION:
        answer = _classification(signature, len(card.labels))
    classes = answer.classes or tuple(range(len(card.labels)))
    if card.labels and len(card.labels) != len(classes):
        raise ArtefactError(
            f"{CARD_NAME} gives {len(card.labels)} labels; the model has {len(classes)} classes"
        )
    return dataclasses.replace(
        answer,
        kind=card.kind or answer.kind,
        classes=classes,
        labels=tuple(card.labels) or tuple(str(value) for value in classes),
        scores_are=card.scores or answer.scores_are,
        title=card.title,
        unit=card.unit,
        top=card.top,
    )


def _classification(signature: Signature, classes: int) -> AnswerSpec:
    """Take the one float output as class scores, since the card brought labels for them."""
    floats = [o for o in signature.outputs if o.datatype.is_float and o.row_size in (classes, -1)]
    if len(floats) != 1:
        raise ArtefactError(
            f"{CARD_NAME} gives {classes} labels, but no single output has {classes} scores a row"
        )
    return AnswerSpec(
        kind=AnswerKind.CLASSIFICATION, scores=floats[0].name, classes=tuple(range(classes))
    )
