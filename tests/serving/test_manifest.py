from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from portico.serving.artefacts import sha256_of
from portico.serving.errors import ArtefactError
from portico.serving.golden import Golden
from portico.serving.manifest import (
    GOLDEN,
    MANIFEST,
    Manifest,
    Source,
    read_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    golden = Golden(
        {"x": np.array([[1.5, np.nan]]), "colour": np.array(["red", ""], dtype=object)},
        {"label": np.array(["cat", "dög"], dtype=object), "p": np.array([0.25, 0.75], np.float32)},
    )
    golden.save(tmp_path / GOLDEN)
    (tmp_path / "model.onnx").write_bytes(b"model")
    return tmp_path


def manifest_of(folder: Path) -> Manifest:
    return Manifest(
        model="pets",
        platform="onnx_onnxv1",
        entry="model.onnx",
        files={name: sha256_of(folder / name) for name in (GOLDEN, "model.onnx")},
        signature={},
        source=Source(kind="sklearn", file="pets.joblib", sha256="0" * 64),
    )


def test_a_manifest_comes_back_as_it_was_written(folder: Path) -> None:
    digest = write_manifest(folder, manifest_of(folder))
    assert read_manifest(folder, digest) == manifest_of(folder)


@pytest.mark.parametrize("name", [GOLDEN, "model.onnx", MANIFEST])
def test_a_file_changed_after_the_import_is_refused_by_name(folder: Path, name: str) -> None:
    digest = write_manifest(folder, manifest_of(folder))
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArtefactError, match=f"'{name}' was changed after the import"):
        read_manifest(folder, digest)


def test_a_missing_file_is_told_by_name(folder: Path) -> None:
    write_manifest(folder, manifest_of(folder))
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtefactError, match=r"'model\.onnx' of the version is missing"):
        read_manifest(folder)


def test_a_folder_without_a_readable_manifest_is_refused(folder: Path) -> None:
    with pytest.raises(ArtefactError, match="holds no manifest"):
        read_manifest(folder)
    (folder / MANIFEST).write_text('{"model": 3}')
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_manifest(folder)


def test_golden_rows_come_back_with_missing_values_and_text(folder: Path) -> None:
    golden = Golden.load(folder / GOLDEN)
    assert golden.inputs["colour"].tolist() == ["red", ""]
    assert golden.inputs["colour"].dtype == object
    np.testing.assert_array_equal(golden.inputs["x"], [[1.5, np.nan]])
    assert golden.outputs["label"].tolist() == ["cat", "dög"]
    assert golden.outputs["p"].dtype == np.float32


def test_golden_rows_that_are_no_archive_are_refused(folder: Path) -> None:
    (folder / GOLDEN).write_bytes(b"no archive")
    with pytest.raises(ArtefactError, match="cannot be read"):
        Golden.load(folder / GOLDEN)
