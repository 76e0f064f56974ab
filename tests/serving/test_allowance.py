"""The list of files that may execute code: this very content, and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from portico.serving.allowance import Allowance
from portico.serving.errors import ArtefactError, ArtefactNotAllowed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    path = tmp_path / "somewhere" / "iris" / "1" / "model.joblib"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"first")
    return path


def test_nothing_is_allowed_at_first(tmp_path: Path, artefact: Path) -> None:
    with pytest.raises(ArtefactNotAllowed) as caught:
        Allowance.of(tmp_path / "state").read(artefact)
    assert "portico models allow PATH" in caught.value.message
    assert "somewhere" not in caught.value.message


def test_an_allowed_content_is_read(tmp_path: Path, artefact: Path) -> None:
    allowance = Allowance.of(tmp_path / "state")
    assert allowance.allow(artefact) == hashlib.sha256(b"first").hexdigest()
    assert allowance.read(artefact) == b"first"


def test_another_process_knows_what_was_allowed(tmp_path: Path, artefact: Path) -> None:
    Allowance.of(tmp_path / "state").allow(artefact)
    assert Allowance.of(tmp_path / "state").read(artefact) == b"first"


def test_a_changed_content_is_not_allowed_until_it_is_allowed_itself(
    tmp_path: Path, artefact: Path
) -> None:
    allowance = Allowance.of(tmp_path / "state")
    allowance.allow(artefact)
    artefact.write_bytes(b"second")
    with pytest.raises(ArtefactNotAllowed):
        allowance.read(artefact)
    allowance.allow(artefact)
    assert allowance.read(artefact) == b"second"
    artefact.write_bytes(b"first")
    assert allowance.read(artefact) == b"first"


def test_the_content_counts_and_not_the_name(tmp_path: Path, artefact: Path) -> None:
    allowance = Allowance.of(tmp_path / "state")
    allowance.allow(artefact)
    moved = artefact.rename(artefact.with_name("other.joblib"))
    assert allowance.read(moved) == b"first"


def test_the_list_is_private_and_whole(tmp_path: Path, artefact: Path) -> None:
    state = tmp_path / "new" / "state"
    digest = Allowance.of(state).allow(artefact)
    (file,) = state.iterdir()
    assert json.loads(file.read_text("utf-8")) == {digest: "model.joblib"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", ["", "no json", "[1]", "\x00"])
def test_a_list_that_cannot_be_read_allows_nothing_and_says_so(
    tmp_path: Path, artefact: Path, content: str
) -> None:
    (tmp_path / "allowed.json").write_text(content)
    allowance = Allowance.of(tmp_path)
    with pytest.raises(ArtefactError, match=r"'allowed\.json' .* cannot be read"):
        allowance.read(artefact)
    with pytest.raises(ArtefactError, match=r"'allowed\.json' .* cannot be read"):
        allowance.allow(artefact)
    assert (tmp_path / "allowed.json").read_text() == content
