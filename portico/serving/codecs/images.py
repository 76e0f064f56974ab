"""A picture's bytes to the tensor that a model takes, as ``[image]`` of ``model.toml`` says.

The steps follow torchvision's reference transforms (``Resize``, ``CenterCrop``, ``ToTensor``,
``Normalize``), so that a model trained with them sees the same numbers here. What a picture is, is
decided by its content; its size is judged by its header, before anything is decoded.
"""

from __future__ import annotations

import contextlib
import io
import math
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, WebPImagePlugin

from portico.serving.codecs.image_fit import Size, fixed_size, pair
from portico.serving.errors import InvalidInput
from portico.serving.tensors import VARIABLE, Array, Datatype, TensorSpec

if TYPE_CHECKING:
    from portico.serving.card import ImageCard

MAX_PIXELS: Final = 50_000_000
"""A larger picture is refused, and so is one that ``resize`` would make larger."""

MAX_JPEG_SCANS: Final = 100
"""A progressive JPEG of a camera has about ten; each costs a pass over all pixels."""

ACCEPTED: Final = "PNG, JPEG, WebP or GIF"
"""The formats that are read, in words."""

# Pillow would import all of its formats to find a missing one: name the one it has not at start.
_FORMATS: Final = ("PNG", "JPEG", WebPImagePlugin.WebPImageFile.format, "GIF")
_SIGNATURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_JPEG: Final = ("JPEG", "MPO")
"""MPO is a JPEG with more pictures behind the first, as many phones save it."""

_ORIENTATION_TAG: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, by its EXIF orientation (Exif 2.32, section 4.6.4)."""

_UPRIGHT: Final = (1, 2, 3, 4)
"""Orientations that do not swap height and width."""


def tensor_from_image(
    data: bytes, spec: TensorSpec, card: ImageCard, where: str = "image"
) -> Array:
    """Return the tensor of one picture, its first axis of length 1.

    Args:
        data: a file of one of the :data:`ACCEPTED` formats; of an animation, the first frame.
        spec: the input; FP16, FP32, FP64 or UINT8 of a shape that :func:`check_image_card` took.
        card: the steps. UINT8 inputs take 0..255 whatever ``scale`` says.
        where: what the picture is called in errors.

    Raises:
        InvalidInput: another format, damaged or truncated, or more than :data:`MAX_PIXELS`.
    """
    picture = _decoded(_open(data, where), spec, card, where)
    if card.crop is not None:
        picture = _centre_crop(picture, pair(card.crop), paper=255 if card.invert else 0)
    picture = picture.convert("L" if card.color == "L" else "RGB")
    return _laid_out(_numbers(picture, spec.datatype, card), spec, card)


# Decoding: nothing of the picture is decoded before its header is found good.


def _decoded(picture: Image.Image, spec: TensorSpec, card: ImageCard, where: str) -> Image.Image:
    """Return the picture upright, in mode L or RGB, and resized."""
    try:
        orientation = _orientation(picture)
        size = _resized(_upright_size(picture, orientation), spec, card)
        _refuse_large(size, where, "is so narrow that, once resized, it would have")
        _decode_smaller(picture, size, orientation)
        picture.load()
        upright = _opaque(_upright(picture, orientation))
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:  # Pillow's parsers raise what the damaged bytes lead them to.
        raise _damaged(picture.format, where) from error
    if size == (upright.height, upright.width):
        return upright
    return upright.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _open(data: bytes, where: str) -> Image.Image:
    if not data:
        raise InvalidInput.at(where, f"is empty; a {ACCEPTED} picture is expected")
    known = data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
    if not known:
        raise InvalidInput.at(where, f"is no {ACCEPTED} picture; others are not accepted")
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(where) from None
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(None, where) from error
    _refuse_large((picture.height, picture.width), where)
    if picture.format in _JPEG and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise InvalidInput.at(where, f"has more than {MAX_JPEG_SCANS} scans; save it anew")
    return picture


def _refuse_large(size: Size, where: str, verb: str = "has") -> None:
    if math.prod(size) > MAX_PIXELS:
        raise _too_large(where, verb)


def _too_large(where: str, verb: str = "has") -> InvalidInput:
    return InvalidInput.at(
        where,
        f"{verb} more than {MAX_PIXELS // 1_000_000} megapixels; send a smaller picture",
    )


def _damaged(format_name: str | None, where: str) -> InvalidInput:
    name = f"{format_name} picture" if format_name else "picture"
    return InvalidInput.at(where, f"is a damaged or truncated {name}")


def _decode_smaller(picture: Image.Image, size: Size, orientation: int) -> None:
    """Let the JPEG decoder halve a large photo, down to twice the size that is wanted.

    The last halving is left to the resize, whose filter the model was trained with.
    """
    height, width = size if orientation in _UPRIGHT else size[::-1]
    if picture.format in _JPEG:
        picture.draft(None, (2 * width, 2 * height))


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) where there is none or it cannot be read."""
    orientation = 1
    with contextlib.suppress(Exception):  # A photo is not refused for its damaged camera data.
        orientation = int(picture.getexif().get(_ORIENTATION_TAG, 1))
    return orientation if orientation in _TURNS else 1


def _upright_size(picture: Image.Image, orientation: int) -> Size:
    size = picture.height, picture.width
    return size if orientation in _UPRIGHT else size[::-1]


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _opaque(picture: Image.Image) -> Image.Image:
    """Return the picture in mode L or RGB, what is transparent laid on white."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        paper = Image.new("RGBA", colours.size, "white")
        return Image.alpha_composite(paper, colours).convert("RGB")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


# From the picture to numbers.


def _resized(size: Size, spec: TensorSpec, card: ImageCard) -> Size:
    """Return the size after the resize of a picture of ``size``."""
    if isinstance(card.resize, int):
        height, width = size
        short = min(size)
        long = int(card.resize * max(size) / short)
        return (card.resize, long) if height <= width else (long, card.resize)
    if card.resize is not None:
        return card.resize
    fixed = fixed_size(spec, card)
    return fixed if card.crop is None and VARIABLE not in fixed else size


def _centre_crop(picture: Image.Image, size: Size, paper: int) -> Image.Image:
    """Cut out the middle; what lies outside a smaller picture is filled with ``paper``.

    The rounding is torchvision's ``center_crop``.
    """
    left, new_left = _cut(picture.width, size[1])
    top, new_top = _cut(picture.height, size[0])
    right, bottom = left + min(size[1], picture.width), top + min(size[0], picture.height)
    middle = picture.crop((left, top, right, bottom))
    if middle.size == (size[1], size[0]):
        return middle
    cropped = Image.new(picture.mode, (size[1], size[0]), (paper,) * len(picture.getbands()))
    cropped.paste(middle, (new_left, new_top))
    return cropped


def _cut(length: int, wanted: int) -> tuple[int, int]:
    """Return where the cut starts in the picture, and where it is put in the result."""
    if length < wanted:
        return 0, (wanted - length) // 2
    return round((length - wanted) / 2), 0


def _numbers(picture: Image.Image, datatype: Datatype, card: ImageCard) -> Array:
    """Return shape [height, width, channels], scaled, inverted and normalised."""
    pixels: Array = np.asarray(picture).reshape(picture.height, picture.width, -1)
    if card.color == "BGR":
        pixels = pixels[:, :, ::-1]
    if card.invert:
        pixels = 255 - pixels
    if not datatype.is_float:
        return pixels
    exact = np.float64 if datatype is Datatype.FP64 else np.float32
    numbers: Array = pixels.astype(exact)
    if card.scale == "0..1":
        numbers /= 255
    if card.mean:
        numbers -= np.array(card.mean, dtype=exact)
    if card.std:
        numbers /= np.array(card.std, dtype=exact)
    return numbers.astype(datatype.dtype, copy=False)


def _laid_out(numbers: Array, spec: TensorSpec, card: ImageCard) -> Array:
    """Return shape [1, …] with the axes that the input has."""
    if len(spec.shape) == 2:
        return np.ascontiguousarray(numbers.reshape(1, -1))
    if len(spec.shape) == 3:
        return np.ascontiguousarray(numbers[np.newaxis, :, :, 0])
    if card.layout == "NCHW":
        numbers = numbers.transpose(2, 0, 1)
    return np.ascontiguousarray(numbers[np.newaxis])
