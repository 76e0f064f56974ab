"""A file is what its ending says, or it is refused before anything opens it."""

from __future__ import annotations

import json
import os
import pickle
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from tiny_onnx import classifier, double

from portico.serving.errors import ArtefactError
from portico.serving.importing.kinds import KINDS, Kind, in_words, kind_of

if TYPE_CHECKING:
    from pathlib import Path

MOST = 1 << 20

CONTENTS = {
    "pickle": pickle.dumps([1, 2]),
    "zlib": zlib.compress(pickle.dumps([1])),
    "gzip": b"\x1f\x8b\x08" + bytes(20),
    "json": b' {"learner": {}}',
    "ubjson": b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner",
    "lightgbm": b"tree\nversion=v4\n",
    "python": b"def predict(x):\n    return x\n",
    "onnx": double().SerializeToString(),
    "nonsense": b"\xff\xfe\x00\x01" * 9,
    "nothing": b"",
}
FITTING = {
    ".joblib": {"pickle", "zlib", "gzip"},
    ".pkl": {"pickle", "zlib", "gzip"},
    ".pickle": {"pickle", "zlib", "gzip"},
    ".skops": set(),
    ".json": {"json"},
    ".ubj": {"ubjson"},
    ".txt": {"lightgbm"},
    ".pt2": set(),
    ".pt": set(),
    ".py": {"python"},
    ".onnx": {"onnx"},
}


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("content", CONTENTS)
def test_ending_and_content_must_agree(tmp_path: Path, ending: str, content: str) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(CONTENTS[content])
    if content in FITTING[ending]:
        assert kind_of(path, MOST) is KINDS[ending]
        return
    with pytest.raises(ArtefactError, match=f"a file with the ending {ending} must be"):
        kind_of(path, MOST)


def test_a_pickle_called_onnx_is_told_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(pickle.dumps("x"))
    with pytest.raises(ArtefactError) as raised:
        kind_of(path, MOST)
    assert raised.value.message == (
        "'model.onnx' is a pickle; a file with the ending .onnx must be ONNX"
    )


@pytest.mark.parametrize("length", [1, 10, 60])
def test_a_truncated_onnx_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(classifier().SerializeToString()[:-length])
    with pytest.raises(ArtefactError, match="damaged, or of no known format"):
        kind_of(path, MOST)


def test_an_unknown_ending_is_told_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"\x89HDF")
    with pytest.raises(ArtefactError, match=r"known endings: \.joblib, \.pkl"):
        kind_of(path, MOST)


def test_ten_gigabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(ArtefactError) as raised:
        kind_of(path, 4 << 30)
    assert raised.value.message == (
        "'model.joblib' has 10.0 GiB; the setting max_artefact_bytes allows 4.0 GiB"
    )


@pytest.mark.parametrize("make", ["folder", "pipe", "nothing", "dangling"])
def test_what_is_no_file_is_refused(tmp_path: Path, make: str) -> None:
    path = tmp_path / "model.joblib"
    if make == "folder":
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    elif make == "dangling":
        path.symlink_to(tmp_path / "gone")
    with pytest.raises(ArtefactError, match=r"is no file|does not exist"):
        kind_of(path, MOST)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("ending", [".skops", ".pt2", ".pt"])
def test_an_archive_that_leads_out_of_itself_is_refused(
    tmp_path: Path, name: str, ending: str
) -> None:
    path = tmp_path / f"model{ending}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr(name, "x")
    with pytest.raises(ArtefactError, match="which leads out of the archive"):
        kind_of(path, MOST)


def test_an_archive_with_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    link = zipfile.ZipInfo("weights")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArtefactError, match="holds 'weights', a link"):
        kind_of(path, MOST)


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(8 << 20))
    assert path.stat().st_size < MOST
    with pytest.raises(ArtefactError, match=r"holds 8\.0 MiB once unpacked"):
        kind_of(path, MOST)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", json.dumps({}))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtefactError, match="damaged zip archive"):
        kind_of(path, MOST)


def test_a_sound_archive_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", json.dumps({}))
    assert kind_of(path, MOST) is Kind.SKLEARN


@pytest.mark.parametrize(
    ("size", "words"),
    [(5, "5 bytes"), (2048, "2.0 KiB"), (3 << 19, "1.5 MiB"), (1 << 30, "1.0 GiB")],
)
def test_sizes_read_as_a_person_writes_them(size: int, words: str) -> None:
    assert in_words(size) == words
