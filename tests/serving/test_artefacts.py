"""Artefacts on disk: what a path names, and what cannot be served."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from portico.serving.artefacts import Artefact, find_artefacts, sha256_of
from portico.serving.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path

as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"model")
    return path


def found(path: Path) -> list[tuple[str, str]]:
    return [(artefact.model, artefact.version) for artefact in find_artefacts(path)]


def test_a_file_is_version_1_of_a_model_named_after_it(tmp_path: Path) -> None:
    file = touched(tmp_path / "iris v2.onnx")
    (artefact,) = find_artefacts(file)
    assert artefact == Artefact("iris v2", "1", file, tmp_path)
    assert artefact.file() == file


def test_a_models_folder_holds_its_versions(tmp_path: Path) -> None:
    touched(tmp_path / "iris" / "1" / "model.onnx")
    touched(tmp_path / "iris" / "10" / "model.joblib")
    touched(tmp_path / "iris" / "notes" / "model.onnx")
    assert sorted(found(tmp_path / "iris")) == [("iris", "1"), ("iris", "10")]
    (first, second) = sorted(find_artefacts(tmp_path / "iris"), key=lambda a: int(a.version))
    assert first.folder == second.folder == tmp_path / "iris"
    assert second.file().name == "model.joblib"


def test_a_folder_of_models_holds_each_of_them(tmp_path: Path) -> None:
    touched(tmp_path / "iris" / "1" / "model.onnx")
    touched(tmp_path / "my wine" / "2" / "model.onnx")
    touched(tmp_path / ".hidden" / "1" / "model.onnx")
    touched(tmp_path / "README.md")
    (tmp_path / "empty").mkdir()
    assert found(tmp_path) == [("iris", "1"), ("my wine", "2")]


@pytest.mark.parametrize("name", ["model.json", "model.txt", "model.ubj", "anything.ubj"])
def test_labels_and_notes_beside_a_model_are_no_artefacts(tmp_path: Path, name: str) -> None:
    for other in ("labels.json", "labels.txt", "manifest.json"):
        touched(tmp_path / "iris" / "1" / other)
    file = touched(tmp_path / "iris" / "1" / name)
    (artefact,) = find_artefacts(tmp_path / "iris")
    assert artefact.file() == file


def test_leading_zeros_are_no_part_of_a_version(tmp_path: Path) -> None:
    touched(tmp_path / "iris" / "007" / "model.onnx")
    assert found(tmp_path) == [("iris", "7")]


def test_the_folder_of_a_relative_path_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path as Here

    touched(tmp_path / "iris" / "1" / "model.onnx")
    monkeypatch.chdir(tmp_path / "iris")
    assert found(Here()) == [("iris", "1")]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "'.*nothing' does not exist"),
        ("empty", r"'.*empty' holds no models; a model is a folder such as iris/1/model\.onnx"),
        ("notes.txt", r"'notes\.txt' is no model file; known endings: \.onnx, \.joblib"),
        ("bad/1/ünï.onnx", "'ünï' cannot be a model's name; use A-Z"),
        (".dot.onnx", r"'\.dot' cannot be a model's name"),
        (f"{'n' * 101}.onnx", "cannot be a model's name"),
        ("strange", "'a:b' cannot be a model's name"),
    ],
)
def test_what_holds_no_models_is_refused_with_the_reason(
    tmp_path: Path, path: str, reason: str
) -> None:
    (tmp_path / "empty").mkdir()
    touched(tmp_path / "strange" / "a:b" / "1" / "model.onnx")
    if path not in ("nothing", "empty", "strange"):
        touched(tmp_path / path)
    with pytest.raises(ArtefactError, match=reason):
        find_artefacts(tmp_path / path)


@as_user
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir(mode=0o000)
    with pytest.raises(ArtefactError, match=r"'.*models' is not readable"):
        find_artefacts(folder)


def test_the_kernels_refusal_of_a_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched(tmp_path / "iris" / "1" / "model.onnx")

    def iterdir(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "iterdir", iterdir)
    with pytest.raises(ArtefactError, match=f"^'{tmp_path}' is not readable$"):
        find_artefacts(tmp_path)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ((), r"no model file; known endings: \.onnx, \.joblib"),
        (("notes.txt",), "no model file"),
        (("a.onnx", "b.onnx"), "2 model files, not one"),
        (("model.joblib", "model.onnx"), "2 model files, not one"),
    ],
)
def test_a_version_is_one_file(tmp_path: Path, files: tuple[str, ...], reason: str) -> None:
    (tmp_path / "1").mkdir()
    for file in files:
        touched(tmp_path / "1" / file)
    with pytest.raises(ArtefactError, match=reason):
        Artefact("iris", "1", tmp_path / "1", tmp_path).file()


def test_weights_beside_the_model_file_do_no_harm(tmp_path: Path) -> None:
    model = touched(tmp_path / "1" / "model.onnx")
    touched(tmp_path / "1" / "model.onnx.data")
    assert Artefact("iris", "1", tmp_path / "1", tmp_path).file() == model


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    assert sha256_of(touched(tmp_path / "m")) == hashlib.sha256(b"model").hexdigest()


def test_looking_at_a_folder_imports_no_numeric_library() -> None:
    code = "import portico.serving.artefacts, sys; print({'numpy', 'onnxruntime'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"
