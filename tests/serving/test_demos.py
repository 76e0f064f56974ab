"""The demo models: made whole, made once, and right about the data they were made from."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("sklearn", reason="the demo models are trained by scikit-learn")
pytest.importorskip("skl2onnx", reason="the demo models are converted by skl2onnx")

from sklearn import datasets

from portico.demos import pickles, train
from portico.demos.digits import dark_on_light
from portico.demos.tables import WINE_NUMBERS, WINE_TEXTS, wine_table
from portico.serving.allowance import Allowance
from portico.serving.artefacts import PICKLES
from portico.serving.card import ModelCard, describe, read_card
from portico.serving.codecs.image_fit import with_image
from portico.serving.codecs.images import tensor_from_image
from portico.serving.codecs.rows import tensors_from_csv, tensors_from_rows
from portico.serving.errors import InvalidInput
from portico.serving.runtimes.registry import open_runtime
from portico.serving.signature import AnswerKind, Kind, Signature

if TYPE_CHECKING:
    from pathlib import Path

    from portico.serving.ports import Runtime
    from portico.serving.tensors import Array, Tensors

# The runtime silences it for the process; the tests' own filters come after that.
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

NAMES = ["iris", "diabetes", "breast-cancer", "wine", "digits"]


class Demo(NamedTuple):
    runtime: Runtime
    signature: Signature
    card: ModelCard

    def answer(self, inputs: Tensors) -> Array:
        name = self.signature.answer.label or self.signature.answer.value
        assert name
        return self.runtime.run(inputs, (name,))[name].reshape(-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demos") / "models"
    train(folder)
    return folder


def opened(folder: Path, name: str) -> Demo:
    allowance = Allowance(folder.parent / "allowed.json")
    for path in pickles(folder):
        allowance.allow(path)
    artefact = next(p for p in (folder / name / "1").iterdir())
    runtime = open_runtime(artefact, 1, allowance)
    card = read_card(folder / name)
    return Demo(runtime, describe(with_image(runtime.signature, card), card), card)


def rows_of(frame: Any, names: list[str]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in np.asarray(frame).tolist()]


def test_every_demo_is_written_once_and_then_left(folder: Path) -> None:
    written = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    said: list[str] = []
    assert train(folder, said.append) == []
    assert said == [f"{name}: is there already" for name in NAMES]
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == written


def test_an_older_recipe_is_replaced_and_a_strange_folder_is_not(folder: Path) -> None:
    (folder / "iris" / ".recipe").write_text("recipe 0\n")
    (folder / "iris" / "stale.txt").touch()
    (folder / "wine" / ".recipe").rename(folder / "wine" / "put-by")
    said: list[str] = []
    try:
        assert train(folder, said.append) == [folder / "iris" / "1" / "model.onnx"]
        assert pickles(folder) == [folder / "breast-cancer" / "1" / "model.joblib"]
    finally:
        (folder / "wine" / "put-by").rename(folder / "wine" / ".recipe")
    assert "wine: left alone, the folder there is no demo model" in said
    assert not (folder / "iris" / "stale.txt").exists()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_a_training_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_iris() -> None:
        raise OSError("no space left")

    monkeypatch.setattr(datasets, "load_iris", load_iris)
    with pytest.raises(OSError, match="no space left"):
        train(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_scikit_learn_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("portico.demos.training.version", version)
    with pytest.raises(ModuleNotFoundError, match=r"portico\[sklearn\]"):
        train(tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_the_command_makes_the_same_files_in_another_process(folder: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "portico.demos", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.partition(":")[0] for line in run.stdout.splitlines()] == NAMES
    assert run.stderr == ""
    for artefact in folder.glob("*/1/*"):
        again = tmp_path / artefact.relative_to(folder)
        assert again.read_bytes() == artefact.read_bytes(), artefact


def test_pickles_are_those_that_the_runtimes_call_so(folder: Path) -> None:
    artefacts = set(folder.glob("*/1/*"))
    assert set(pickles(folder)) == {p for p in artefacts if p.suffix in PICKLES}


@pytest.mark.parametrize("name", NAMES)
def test_every_card_fits_its_model_and_its_example_is_answered(folder: Path, name: str) -> None:
    demo = opened(folder, name)
    assert demo.card.title
    assert demo.card.description
    assert demo.signature.answer.title
    assert all(feature.title for feature in demo.signature.features)
    if demo.signature.image is None:
        example = demo.signature.example_row()
        assert len(demo.answer(tensors_from_rows(demo.signature, [example]))) == 1


def test_iris_knows_its_flowers_by_their_latin_names(folder: Path) -> None:
    demo, data = opened(folder, "iris"), datasets.load_iris()
    rows = rows_of(data.data, [f.name for f in demo.signature.features])
    labels = demo.answer(tensors_from_rows(demo.signature, rows))
    assert np.mean(labels == data.target) > 0.96
    assert demo.signature.answer.labels == ("Iris setosa", "Iris versicolor", "Iris virginica")


def test_diabetes_gives_a_value_with_a_unit(folder: Path) -> None:
    demo, data = opened(folder, "diabetes"), datasets.load_diabetes(scaled=False)
    rows = rows_of(data.data, [f.name for f in demo.signature.features])
    values = demo.answer(tensors_from_rows(demo.signature, rows))
    assert np.corrcoef(values, data.target)[0, 1] > 0.75
    assert (demo.signature.answer.kind, demo.signature.answer.unit) == (
        AnswerKind.REGRESSION,
        "points",
    )


def test_breast_cancer_says_benign_of_the_benign(folder: Path) -> None:
    demo, data = opened(folder, "breast-cancer"), datasets.load_breast_cancer()
    assert [f.name for f in demo.signature.features] == data.feature_names.tolist()
    rows = rows_of(data.data, data.feature_names.tolist())
    labels = demo.answer(tensors_from_rows(demo.signature, rows))
    assert np.mean(labels == data.target) > 0.99
    assert demo.signature.answer.labels == tuple(data.target_names)


def test_wine_takes_a_table_with_gaps_and_texts(folder: Path) -> None:
    demo = opened(folder, "wine")
    frame, cultivar = wine_table()
    inputs = tensors_from_csv(demo.signature, frame.to_csv(index=False))
    assert np.mean(demo.answer(inputs) == cultivar) > 0.95
    assert frame.isna().sum().sum() > 10


def test_wine_passes_over_a_style_it_never_saw_and_refuses_a_colour(folder: Path) -> None:
    demo = opened(folder, "wine")
    row = demo.signature.example_row()
    odd = tensors_from_rows(demo.signature, [row | {"cellar_style": "amphora"}])
    assert len(demo.answer(odd)) == 1
    with pytest.raises(InvalidInput, match="it must be one of pale, medium, deep"):
        tensors_from_rows(demo.signature, [row | {"colour_depth": "blue"}])


def test_wine_has_numbers_and_texts(folder: Path) -> None:
    kinds = {f.name: f.kind for f in opened(folder, "wine").signature.features}
    assert kinds == dict.fromkeys(WINE_NUMBERS, Kind.NUMBER) | dict.fromkeys(WINE_TEXTS, Kind.TEXT)


# Digits: what people send, not what the data set holds.


def read(demo: Demo, *pictures: Image.Image | bytes) -> list[int]:
    assert demo.card.image
    tensors = []
    for picture in pictures:
        file = io.BytesIO()
        if isinstance(picture, Image.Image):
            picture.save(file, "PNG")
        data = picture if isinstance(picture, bytes) else file.getvalue()
        tensors.append(tensor_from_image(data, demo.signature.inputs[0], demo.card.image))
    name = demo.signature.inputs[0].name
    return [int(label) for label in demo.answer({name: np.concatenate(tensors)})]


def test_digits_reads_the_data_set_drawn_dark_on_light(folder: Path) -> None:
    demo, data = opened(folder, "digits"), datasets.load_digits()
    pictures = [dark_on_light(image) for image in data.images[:300]]
    assert np.mean(read(demo, *pictures) == data.target[:300]) > 0.97


def test_digits_reads_its_own_examples(folder: Path) -> None:
    examples = folder / "digits" / "examples"
    pictures = [(examples / f"{name}.png").read_bytes() for name in ("three", "seven")]
    assert read(opened(folder, "digits"), *pictures) == [3, 7]


STROKES = {
    0: "50,15 30,30 28,60 40,82 55,84 70,65 70,35 58,17 50,15",
    1: "40,28 54,14 54,86",
    2: "30,30 38,18 55,15 68,25 66,42 45,62 30,82 72,82",
    3: "32,20 50,14 66,24 60,42 45,48 62,54 70,70 55,85 32,80",
    4: "60,85 60,15 28,60 76,60",
    5: "68,16 36,16 34,46 52,42 68,55 66,74 50,85 30,78",
    6: "62,15 42,32 32,58 38,80 55,85 68,72 62,56 45,54 34,66",
    7: "28,18 72,18 46,85",
    8: "50,48 34,34 40,18 58,16 66,30 50,48 32,64 36,82 58,86 70,72 50,48",
    9: "66,32 52,46 36,38 36,22 52,14 66,24 66,32 64,60 54,85",
}
"""A pen's way over 100 by 100 pixels."""


@pytest.mark.parametrize("width", [7, 12])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_digits_reads_what_a_person_draws(folder: Path, width: int, mode: str) -> None:
    pictures = []
    for points in STROKES.values():
        picture = Image.new("L", (100, 100), 255)
        way = [tuple(map(int, point.split(","))) for point in points.split()]
        ImageDraw.Draw(picture).line(way, fill=20, width=width, joint="curve")
        pictures.append(picture.convert(mode))
    right = np.equal(read(opened(folder, "digits"), *pictures), list(STROKES))
    assert right.sum() >= 9
