"""``portico import``, and what ``portico serve`` imports before it serves."""

from __future__ import annotations

import os
import pickle
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

pytest.importorskip("onnx", reason="import compiles with onnx")
pytest.importorskip("sklearn", reason="the models are of scikit-learn")

from tiny_onnx import double, saved

from gateway import process
from gateway.cli import main as cli
from gateway.cli import serve
from gateway.settings import load_settings
from portico.serving.allowance import Allowance
from portico.storage.opening import open_artefacts, open_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.settings import Settings
    from portico.serving.versions import CatalogueState

STATE = Path(".portico")


class Told(NamedTuple):
    """What a command wrote, and with which code it ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    kept = os.environ.copy()
    for name in kept:
        if name.startswith("PORTICO_"):
            del os.environ[name]
    monkeypatch.setenv("COLUMNS", "200")
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def portico(capfd: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Runs a command; what its children print counts as well."""

    def run(*arguments: str | Path) -> Told:
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        return Told(code, *capfd.readouterr())

    return run


@pytest.fixture
def served(
    portico: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Told, list[Settings]]]:
    """Runs ``portico serve`` up to where gunicorn would begin."""

    def run(*paths: str | Path) -> tuple[Told, list[Settings]]:
        seen: list[Settings] = []
        monkeypatch.setattr(serve, "_run_gunicorn", lambda: seen.append(load_settings()))
        monkeypatch.setattr(process, "prepare_state", lambda _: None)
        monkeypatch.delenv("PORTICO_MODELS", raising=False)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return portico("serve", *paths, "--port", port), seen

    return run


@pytest.fixture(scope="module")
def tree() -> Any:
    """A small fitted tree over two named columns."""
    import pandas as pd
    from sklearn.tree import DecisionTreeClassifier

    frame = pd.DataFrame({"length": [1.0, 2.0, 3.0, 4.0], "width": [1.0, 1.0, 2.0, 2.0]})
    return DecisionTreeClassifier(random_state=1).fit(frame, ["cat", "cat", "dog", "dog"])


@pytest.fixture
def tree_file(tmp_path: Path, tree: Any) -> Path:
    path = tmp_path / "tree.pkl"
    path.write_bytes(pickle.dumps(tree))
    return path


def catalogue() -> CatalogueState:
    return open_versions(load_settings().database_url).state()


# portico import


def test_the_report_says_what_is_served_and_what_to_do_next(
    portico: Callable[..., Told], tree_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "pets.csv").write_text("length,width,name\n1,1,Tom\n4,2,Rex\n")
    told = portico("import", tree_file, "--name", "pets", "--examples", "pets.csv")
    assert told.code == 0, told.err
    assert re.search(
        r"^pets version 1 was made from tree.pkl in \d+\.\d s\.$", told.out, re.MULTILINE
    )
    assert "Does the compiled model answer as the original?" in told.out
    assert re.search(r"^your examples +2 +0 +none$", told.out, re.MULTILINE)
    assert re.search(r"^one row +\d.* times as fast *$", told.out, re.MULTILINE)
    assert "Served  compiled to ONNX, which answers as the original does" in told.out
    assert "Alias   production" in told.out
    assert "Note    columns passed over, as the model does not take them: 'name'" in told.out
    assert told.out.endswith("Next    portico serve\n")


def test_a_second_version_is_the_candidate_unless_it_is_promoted(
    portico: Callable[..., Told], tree_file: Path
) -> None:
    portico("import", tree_file, "--state", "my state")
    second = portico("import", tree_file, "--state", "my state", "--title", "Pets")
    assert "Alias   candidate" in second.out
    assert second.out.endswith("Next    portico models promote tree 2 --state 'my state'\n")
    third = portico("import", tree_file, "--state", "my state", "--title", "P", "--promote")
    assert third.out.endswith("Next    portico serve --state 'my state'\n")


def test_the_same_file_again_is_told_to_be_there(
    portico: Callable[..., Told], tree_file: Path
) -> None:
    portico("import", tree_file)
    again = portico("import", tree_file)
    assert "tree version 1 was made from this very file and options before" in again.out
    assert len(catalogue().versions) == 1


def test_title_and_description_win_over_the_card_beside(
    portico: Callable[..., Told], tree_file: Path, tmp_path: Path
) -> None:
    card = 'title = "Old"\ndescription = "Kept."\n'
    (tmp_path / "model.toml").write_text(card)
    portico("import", tree_file, "--title", 'A "new" one')
    (record,) = catalogue().versions
    folder = open_artefacts("", STATE).fetch(record.digest)
    card = (folder / "model.toml").read_text()
    assert 'title = "A \\"new\\" one"' in card
    assert 'description = "Kept."' in card


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("pet.onnx", pickle.dumps(1), "'pet.onnx' is a pickle; a file with the ending .onnx"),
        ("pet.h5", b"x", "'pet.h5' is no model file that can be imported; known endings"),
        ("pet.pkl", pickle.dumps([1]), "'pet.pkl' holds a list; a fitted estimator is"),
        ("pet.txt", b"", "'pet.txt' is an empty file; a file with the ending .txt must be"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(
    portico: Callable[..., Told], tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    told = portico("import", name)
    assert told.code == 2
    assert told.err.splitlines()[-1].startswith(f"portico: {reason}")
    assert "Traceback" not in told.err


def test_a_file_that_is_not_there_is_one_sentence(portico: Callable[..., Told]) -> None:
    told = portico("import", "gone.joblib")
    assert told.code == 2
    assert told.err.strip().endswith("gone.joblib' does not exist")


# portico serve


def test_serve_imports_a_named_file_and_promotes_it(
    served: Callable[..., tuple[Told, list[Settings]]], tree_file: Path, tree: Any
) -> None:
    told, seen = served(tree_file)
    assert told.code == 0, told.err
    assert "portico: importing tree.pkl ..." in told.out
    assert (
        "portico: tree version 1 was imported, and is served compiled to ONNX, which answers as "
        "the original does" in told.out
    )
    assert seen[0].models == ()
    tree_file.write_bytes(pickle.dumps(tree, protocol=5))
    served(tree_file)
    assert catalogue().aliases == {"tree": {"production": 2}}
    tree_file.write_bytes(pickle.dumps(tree))
    told, _ = served(tree_file)
    assert "portico: tree version 1 was imported before" in told.out
    assert catalogue().aliases["tree"]["production"] == 1


def test_serve_without_paths_serves_what_was_imported(
    served: Callable[..., tuple[Told, list[Settings]]],
    portico: Callable[..., Told],
    tree_file: Path,
) -> None:
    told, seen = served()
    assert told.code == 2
    assert "no models: name a model file" in told.err
    assert seen == []
    portico("import", tree_file)
    told, seen = served()
    assert told.code == 0, told.err
    assert seen[0].models == ()


def test_serve_leaves_onnx_as_it_lies(
    served: Callable[..., tuple[Told, list[Settings]]], tmp_path: Path, tree_file: Path
) -> None:
    lone = saved(tmp_path / "double.onnx", double())
    told, seen = served(lone)
    assert (told.code, told.out) == (0, "")
    assert seen[0].models == (lone,)
    assert not (STATE / "portico.db").exists()
    _, seen = served(lone, tree_file)
    assert seen[0].models == (lone,)


def folder_of(tmp_path: Path, tree: Any) -> tuple[Path, Path]:
    """Lay out a models folder, and return it and the pickle in it."""
    file = tmp_path / "zoo" / "pets" / "3" / "model.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(tree))
    (tmp_path / "zoo" / "pets" / "model.toml").write_text('title = "Pets"\n')
    saved(tmp_path / "zoo" / "double" / "1" / "model.onnx", double())
    return tmp_path / "zoo", file


def test_serve_imports_allowed_pickles_of_a_folder_under_their_numbers(
    served: Callable[..., tuple[Told, list[Settings]]], tmp_path: Path, tree: Any
) -> None:
    folder, file = folder_of(tmp_path, tree)
    told, seen = served(folder)
    assert told.out == "", "it was not allowed yet"
    Allowance.of(STATE).allow(file)
    told, seen = served(folder)
    assert told.code == 0, told.err
    assert "portico: pets version 3 was imported, and is served compiled" in told.out
    assert seen[0].models == (folder,)
    assert catalogue().aliases == {"pets": {"production": 3}}
    (record,) = catalogue().versions
    card = open_artefacts("", STATE).fetch(record.digest) / "model.toml"
    assert 'title = "Pets"' in card.read_text()
    told, _ = served(folder)
    assert (told.code, told.out) == (0, "")


def test_another_file_under_a_number_that_was_imported_is_refused(
    served: Callable[..., tuple[Told, list[Settings]]], tmp_path: Path, tree: Any
) -> None:
    folder, file = folder_of(tmp_path, tree)
    Allowance.of(STATE).allow(file)
    served(folder)
    file.write_bytes(pickle.dumps(tree, protocol=5))
    Allowance.of(STATE).allow(file)
    told, seen = served(folder)
    assert told.code == 2
    assert told.err.strip() == (
        "portico: version 3 of model 'pets' was made from another file than the present "
        "'model.pkl', and versions never change; give this file the next number"
    )
    assert seen == []


def test_an_allowed_pickle_that_cannot_be_imported_is_left_as_it_lies(
    served: Callable[..., tuple[Told, list[Settings]]], tmp_path: Path, tree: Any
) -> None:
    folder, file = folder_of(tmp_path, tree)
    file.write_bytes(pickle.dumps("no estimator"))
    Allowance.of(STATE).allow(file)
    told, seen = served(folder)
    assert told.code == 0
    assert "portico: pets version 3 was not imported: 'model.pkl' holds a str" in told.out
    assert seen[0].models == (folder,)


def test_a_named_file_that_cannot_be_imported_stops_the_start(
    served: Callable[..., tuple[Told, list[Settings]]], tmp_path: Path
) -> None:
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps("no estimator"))
    told, seen = served(tmp_path / "bad.pkl")
    assert told.code == 2
    assert told.err.strip() == ("portico: 'bad.pkl' holds a str; a fitted estimator is expected")
    assert seen == []


def test_serve_cleans_what_a_killed_import_has_left(
    served: Callable[..., tuple[Told, list[Settings]]], tmp_path: Path
) -> None:
    (STATE / "staging" / "dead").mkdir(parents=True)
    told, _ = served(saved(tmp_path / "double.onnx", double()))
    assert told.code == 0, told.err
    assert list((STATE / "staging").iterdir()) == []


def test_what_is_compiled_needs_no_allowance(
    served: Callable[..., tuple[Told, list[Settings]]], tree_file: Path
) -> None:
    served(tree_file)
    assert not (STATE / "allowed.json").exists()
