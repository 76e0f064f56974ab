"""Does a picture, made as ``[image]`` of ``model.toml`` says, fit the input of a model?

Checked when the model is loaded, so that a card that cannot work is told then and not per picture.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final, TypeAlias

from portico.serving.errors import ArtefactError
from portico.serving.signature import Feature, Kind
from portico.serving.tensors import VARIABLE, Datatype, TensorSpec

if TYPE_CHECKING:
    from portico.serving.card import ImageCard, ModelCard
    from portico.serving.signature import Signature

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""

IMAGE_FEATURE: Final = "image"
"""Name of the feature that takes the picture."""


def check_image_card(card: ImageCard, spec: TensorSpec) -> None:
    """Check that a picture prepared as the card says fits the input.

    Raises:
        ArtefactError: mean, std, layout, crop or resize contradict the input or each other.
    """
    _check_axes(card, spec)
    _check_size(card, spec)
    _check_numbers(card, spec)


def image_feature(spec: TensorSpec) -> Feature:
    """Return the feature that fills an input with one picture."""
    return Feature(
        name=IMAGE_FEATURE,
        tensor=spec.name,
        kind=Kind.IMAGE,
        datatype=spec.datatype,
        title="Picture",
    )


def with_image(signature: Signature, card: ModelCard) -> Signature:
    """Replace the features of the picture's input by one picture, if the card has ``[image]``.

    To be called before :func:`~portico.serving.card.describe`, so that the card may give the
    feature ``image`` a title and a description.

    Raises:
        ArtefactError: no input, or more than one, can hold a picture made as the card says.
    """
    if card.image is None:
        return signature
    spec = _picture_input(signature, card.image)
    others = [feature for feature in signature.features if feature.tensor != spec.name]
    return dataclasses.replace(signature, features=(image_feature(spec), *others))


def _picture_input(signature: Signature, card: ImageCard) -> TensorSpec:
    if len(signature.inputs) == 1:
        check_image_card(card, signature.inputs[0])
        return signature.inputs[0]
    fitting = [spec for spec in signature.inputs if _fits(card, spec)]
    if len(fitting) == 1:
        return fitting[0]
    inputs = ", ".join(f"'{s.name}' {s.datatype} {list(s.shape)}" for s in signature.inputs)
    count = "none" if not fitting else f"{len(fitting)}"
    raise ArtefactError(
        f"[image] must fit exactly one input of the model; it fits {count} of {inputs}"
    )


def _fits(card: ImageCard, spec: TensorSpec) -> bool:
    try:
        check_image_card(card, spec)
    except ArtefactError:
        return False
    return True


# The input: where its channels, height and width are.


def channels_of(card: ImageCard) -> int:
    """Return how many channels a picture has, made as the card says."""
    return 1 if card.color == "L" else 3


def fixed_size(spec: TensorSpec, card: ImageCard) -> Size:
    """Return height and width as the input fixes them, -1 where it does not."""
    match spec.shape:
        case (_, _, height, width) if card.layout == "NCHW":
            return height, width
        case (_, height, width, *_):
            return height, width
        case (_, columns):
            return _unflattened(columns, card)
        case _:
            return VARIABLE, VARIABLE


def _unflattened(columns: int, card: ImageCard) -> Size:
    """Return the size of a picture laid out as one row of columns: a square, if none is given."""
    given = _final_size(card)
    side = math.isqrt(max(columns, 0))
    if given is None and side * side == columns:
        return side, side
    is_fitting = given is not None and columns in (VARIABLE, math.prod(given))
    return given if given and is_fitting else (VARIABLE, VARIABLE)


def _final_size(card: ImageCard) -> Size | None:
    """Return the size that the card's steps give every picture; None when it depends on it."""
    if card.crop is not None:
        return pair(card.crop)
    return card.resize if isinstance(card.resize, tuple) else None


def pair(size: int | Size) -> Size:
    """Return height and width of what the card gives as one side or as both."""
    return (size, size) if isinstance(size, int) else size


# What is checked when a model is loaded.


def _check_axes(card: ImageCard, spec: TensorSpec) -> None:
    shape, rank = list(spec.shape), len(spec.shape)
    if rank == 4:
        channels = spec.shape[1 if card.layout == "NCHW" else 3]
        if channels not in (VARIABLE, channels_of(card)):
            raise ArtefactError(
                f"[image] layout {card.layout} with color {card.color} gives {channels_of(card)} "
                f"channels; input '{spec.name}' takes {channels} there (shape {shape})"
            )
    elif rank not in (2, 3) or card.color != "L":
        raise ArtefactError(
            f"[image] makes pictures of layout {card.layout}; input '{spec.name}' has shape "
            f'{shape}. Only color = "L" also fits [N, H, W] and [N, H·W]'
        )
    if spec.shape[0] not in (VARIABLE, 1):
        raise ArtefactError(
            f"input '{spec.name}' takes exactly {shape[0]} pictures at once (shape {shape}); "
            "export the model with a variable first axis"
        )


def _check_size(card: ImageCard, spec: TensorSpec) -> None:
    fixed, final = fixed_size(spec, card), _final_size(card)
    if len(spec.shape) == 2 and fixed == (VARIABLE, VARIABLE):
        raise ArtefactError(
            f"[image] must say with resize = [height, width] or crop which picture fills the "
            f"columns of input '{spec.name}' (shape {list(spec.shape)})"
        )
    if fixed == (VARIABLE, VARIABLE) or (
        card.resize is card.crop is None and VARIABLE not in fixed
    ):
        return
    if final is None:
        raise ArtefactError(
            f"[image] leaves the pictures' size open, but input '{spec.name}' has shape "
            f"{list(spec.shape)}: add crop, or write resize = [height, width]"
        )
    if any(theirs not in (VARIABLE, ours) for theirs, ours in zip(fixed, final, strict=True)):
        step = "crop" if card.crop is not None else "resize"
        raise ArtefactError(
            f"[image] {step} makes pictures of {final[0]} x {final[1]} (height x width); input "
            f"'{spec.name}' has shape {list(spec.shape)}"
        )


def _check_numbers(card: ImageCard, spec: TensorSpec) -> None:
    if not spec.datatype.is_float and spec.datatype is not Datatype.UINT8:
        raise ArtefactError(
            f"input '{spec.name}' takes {spec.datatype}; pictures go to FP16, FP32, FP64 or UINT8"
        )
    for key, values in (("mean", card.mean), ("std", card.std)):
        if values and len(values) != channels_of(card):
            raise ArtefactError(
                f"[image] {key} has {len(values)} values; color {card.color} has "
                f"{channels_of(card)} channels"
            )
        if values and not spec.datatype.is_float:
            raise ArtefactError(f"[image] {key} makes fractions; input '{spec.name}' takes UINT8")
        if not all(map(math.isfinite, values)) or (key == "std" and 0 in values):
            raise ArtefactError(f"[image] {key} = {values}: a channel cannot be so normalised")
