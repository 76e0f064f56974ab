"""Handwritten digits as a picture model.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", 1998: 8 by 8 counts of
ink from 0 to 16. People send something else: a pen of another width, off the middle, slanted, in
a picture of 100 pixels or more, which is then resized. So the model learns from the data set
and from copies of it that were drawn anew and resized in that way.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from portico.demos.recipe import SEED, Recipe, write_onnx

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.tensors import Array

SIDE: Final = 8
"""Pixels of the data set's pictures, a side."""

FULL: Final = 16
"""The data set's count for a pixel full of ink."""

COPIES: Final = 10
"""Redrawn copies of every picture."""

_INK: Final = 32
_PAPER: Final = 48
_LEVELS: Final = np.arange(256)
_EXAMPLES: Final = {"three": 3, "seven": 7}


def digits(folder: Path, path: Path) -> None:
    """Train a small network and put two pictures beside it that a person could have drawn."""
    from sklearn.datasets import load_digits

    data = load_digits()
    model = network(data.images, data.target)
    write_onnx(model, SIDE * SIDE, path)
    (folder / "examples").mkdir()
    for name, digit in _EXAMPLES.items():
        example = data.images[data.target == digit][0]
        dark_on_light(example).save(folder / "examples" / f"{name}.png")


def network(images: Array, target: Array) -> Any:
    """Fit a network on the pictures and their redrawn copies.

    Args:
        images: counts of ink, shape [n, 8, 8], 0 to 16.
        target: the digits, shape [n].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    rng = np.random.default_rng(SEED)
    copies = [redrawn(image, rng) for _ in range(COPIES) for image in images]
    rows = np.concatenate([images, copies]).reshape(-1, SIDE * SIDE)
    # The darkest pixel of a thin pen is as good as that of a thick one.
    model = make_pipeline(
        Normalizer("max"),
        MLPClassifier((96,), max_iter=20, alpha=1e-3, random_state=SEED),
    )
    # On matrices this small, threads wait for each other ten times as long as they work.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, np.tile(target, COPIES + 1))


def redrawn(image: Array, rng: np.random.Generator) -> Array:
    """Return a picture as if drawn by another hand and resized to 8 by 8, 0 to 16."""
    soft = _light_on_dark(image, _INK)
    edge = rng.uniform(60, 215)  # Where ink begins: a low edge makes a thick pen.
    ink = soft.point(np.clip((_LEVELS - edge) * 6 + 128, 0, 255).astype(int).tolist())
    matrix, shift = _hand(rng)
    paper = ink.transform(
        (_PAPER, _PAPER),
        Image.Transform.AFFINE,
        (*matrix[0], shift[0], *matrix[1], shift[1]),
        Image.Resampling.BILINEAR,
    )
    small = paper.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    redone: Array = np.asarray(small) * (FULL / 255)
    return redone


def _hand(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the affine map from a point of the paper to one of the ink: size, slant, place."""
    height = rng.uniform(0.65, 1.1) * _PAPER
    size = np.array([height * rng.uniform(0.75, 1.15), height])
    angle, slant = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.diag(_INK / size) @ np.array([[1, slant], [0, 1]]) @ turn
    middle = _PAPER / 2 + rng.uniform(-0.5, 0.5, 2) * np.maximum(_PAPER - size, 5)
    return matrix, _INK / 2 - matrix @ middle


def _light_on_dark(image: Array, side: int) -> Image.Image:
    levels = np.round(image * (255 / FULL)).astype(np.uint8)
    return Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC)


def dark_on_light(image: Array, side: int = 100) -> Image.Image:
    """Return a picture of the data set as a person would draw it: dark on white, larger."""
    return _light_on_dark(image, side).point([255 - level for level in range(256)])


RECIPE: Final = Recipe("digits", 1, "model.onnx", digits)
