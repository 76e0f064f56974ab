"""From a file to a version: compiled where that is proven, and nothing where it fails."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="import compiles with onnx")
pytest.importorskip("sklearn", reason="the models are of scikit-learn")

from house import House, house_at
from tiny_onnx import double, model, node, saved
from trick_pickles import Odd, canary, running

from portico.serving.card import AnswerCard, ModelCard, read_card
from portico.serving.errors import (
    ArtefactError,
    ArtefactNotAllowed,
    ServingError,
    VersionExists,
)
from portico.serving.golden import Golden
from portico.serving.importing.confinement import Limits
from portico.serving.manifest import GOLDEN, REFERENCE, read_manifest
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.runtimes.registry import open_runtime
from portico.serving.signature import AnswerKind
from portico.serving.signature_json import signature_from_json

if TYPE_CHECKING:
    from portico.serving.versions import VersionRecord


# What becomes of a file that can be imported.


def test_a_joblib_file_becomes_a_compiled_version(
    house: House, iris_file: Path, iris: Any, table: Path
) -> None:
    imported = house.run(iris_file, examples=table, card=ModelCard(title="Iris"), by="ada")
    manifest, folder = imported.manifest, house.folder(imported)
    assert (imported.model, imported.version, imported.is_new) == ("iris", 1, True)
    assert (manifest.platform, manifest.entry) == ("onnx_onnxv1", "model.onnx")
    assert manifest.parity
    assert manifest.parity.compiled
    assert {check.rows_from for check in manifest.parity.checks} >= {"examples", "thresholds"}
    assert manifest.source.kind == "sklearn"
    assert manifest.source.file == "iris.joblib"
    assert "scikit-learn" in manifest.source.libraries
    assert sorted(path.name for path in folder.iterdir()) == [
        GOLDEN, "manifest.json", "model.onnx", "model.toml", REFERENCE,
    ]  # fmt: skip
    compiled = ONNXModel(folder / "model.onnx", 1)
    golden = Golden.load(folder / GOLDEN)
    golden.check(compiled)
    assert len(golden.inputs["input"]) == 16
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]])
    assert (
        compiled.run({"input": rows}, ("label",))["label"].tolist() == iris.predict(rows).tolist()
    )
    (record,) = house.versions.state().versions
    assert record.by == "ada"
    assert house.leftovers() == []


def test_the_version_carries_the_card_and_what_the_examples_taught(
    house: House, iris_file: Path, table: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("setosa\nversicolor\nvirginica\n")
    imported = house.run(
        iris_file, examples=table, labels=tmp_path / "labels.txt", card=ModelCard(title="Iris")
    )
    card = read_card(house.folder(imported))
    assert card.title == "Iris"
    assert card.feature_names == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert card.features["sepal_length"].default == 5.8
    assert card.answer == AnswerCard(labels=["setosa", "versicolor", "virginica"])


def test_without_examples_rows_within_the_training_ranges_stand_in(
    house: House, iris_file: Path
) -> None:
    imported = house.run(iris_file)
    assert imported.manifest.parity
    assert imported.manifest.parity.compiled
    assert "ranges" in {check.rows_from for check in imported.manifest.parity.checks}
    assert REFERENCE not in imported.manifest.files
    assert GOLDEN in imported.manifest.files


@pytest.mark.parametrize("ending", [".pkl", ".pickle", ".skops"])
def test_other_files_of_scikit_learn_become_the_same(
    house: House, tmp_path: Path, iris: Any, ending: str
) -> None:
    path = tmp_path / f"iris{ending}"
    if ending == ".skops":
        skops = pytest.importorskip("skops.io")
        skops.dump(iris, path)
    else:
        path.write_bytes(pickle.dumps(iris))
    imported = house.run(path)
    assert imported.manifest.entry == "model.onnx"
    assert imported.manifest.source.file == path.name


def test_onnx_is_taken_as_it_is_with_its_weights_beside(house: House, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    (tmp_path / "source" / "parts").mkdir(parents=True)
    weights = onnx.numpy_helper.from_array(np.full((2,), 3, np.float32), "w")
    made = model(
        [node("Mul", ["x", "w"], ["y"])],
        [("x", 1, ["n", 2])], [("y", 1, ["n", 2])], [weights],
    )  # fmt: skip
    path = tmp_path / "source" / "triple.onnx"
    onnx.save(made, path, save_as_external_data=True, location="parts/w.bin", size_threshold=0)
    imported = house.run(path)
    assert imported.manifest.parity is None
    assert set(imported.manifest.files) == {GOLDEN, "model.onnx", "model.toml", "parts/w.bin"}
    opened = ONNXModel(house.folder(imported) / "model.onnx", 1)
    rows = np.ones((2, 2), np.float32)
    assert opened.run({"x": rows}, None)["y"].tolist() == [[3, 3], [3, 3]]


def test_what_cannot_be_compiled_is_kept_as_it_is_and_allowed(house: House, tmp_path: Path) -> None:
    path = tmp_path / "odd.pkl"
    rows = np.linspace(0, 1, 12).reshape(-1, 2)
    path.write_bytes(pickle.dumps(Odd().fit(rows, rows[:, 0])))
    imported = house.run(path)
    parity = imported.manifest.parity
    assert parity
    assert not parity.compiled
    assert "no compiler for Odd" in parity.reason
    assert imported.manifest.entry == "model.pkl"
    entry = house.folder(imported) / "model.pkl"
    opened = open_runtime(entry, 1, house.allowance)
    Golden.load(house.folder(imported) / GOLDEN).check(opened)
    assert signature_from_json(imported.manifest.signature).answer.kind is AnswerKind.REGRESSION


def test_what_was_compiled_is_not_allowed_to_execute_code(house: House, iris_file: Path) -> None:
    house.run(iris_file)
    with pytest.raises(ArtefactNotAllowed):
        house.allowance.read(iris_file)


# Versions.


def test_the_same_file_with_the_same_options_is_the_same_version(
    house: House, iris_file: Path, table: Path
) -> None:
    first = house.run(iris_file)
    again = house.run(iris_file)
    assert (again.version, again.is_new) == (first.version, False)
    assert again.manifest == first.manifest
    other = house.run(iris_file, examples=table)
    assert (other.version, other.is_new) == (2, True)
    assert house.versions.state().aliases == {"iris": {"production": 1, "candidate": 2}}
    back = house.run(iris_file, promote=True)
    assert (back.version, back.is_new) == (1, False)
    promoted = house.run(iris_file, examples=table, promote=True)
    assert (promoted.version, promoted.is_new) == (2, False)
    assert house.versions.state().aliases["iris"]["production"] == 2


def test_a_number_that_is_ordered_belongs_to_one_file(
    house: House, iris_file: Path, tmp_path: Path
) -> None:
    assert house.run(iris_file, name="pets", version=4).version == 4
    assert not house.run(iris_file, name="pets", version=4).is_new
    other = tmp_path / "other.onnx"
    saved(other, double())
    with pytest.raises(VersionExists, match="version 4 of model 'pets' was made from another file"):
        house.run(other, name="pets", version=4)
    assert house.run(other, name="pets").version == 5


def test_a_stored_file_that_was_changed_is_no_equal_version(house: House, iris_file: Path) -> None:
    first = house.run(iris_file)
    folder = house.folder(first)
    (record,) = house.versions.state().versions
    with (folder / "model.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArtefactError, match=r"'model\.onnx' was changed after the import"):
        read_manifest(folder, record.digest)
    assert house.run(iris_file).version == 2


@pytest.mark.parametrize("name", ["", "ünï", "../up", "a/b", ".hidden"])
def test_a_name_that_no_model_can_have_is_refused(
    house: House, iris_file: Path, name: str, tmp_path: Path
) -> None:
    if not name:
        iris_file = iris_file.rename(tmp_path / "_.joblib")
    with pytest.raises(ArtefactError, match="cannot be a model's name"):
        house.run(iris_file, name=name)


# What cannot be imported leaves nothing behind.


def refused(house: House, file: Path, **order: Any) -> str:
    with pytest.raises(ArtefactError) as raised:
        house.run(file, **order)
    assert house.versions.state().versions == ()
    assert house.leftovers() == []
    return raised.value.message


def test_labels_of_another_number_are_told_with_their_file(
    house: House, iris_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    told = refused(house, iris_file, labels=tmp_path / "two.txt")
    assert told == "'two.txt' gives 2 labels; the model has 3 classes"


def test_labels_that_cannot_be_read_are_told(house: House, iris_file: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("[1, 2")
    assert "'labels.json' cannot be read" in refused(
        house, iris_file, labels=tmp_path / "labels.json"
    )
    assert "does not exist" in refused(house, iris_file, labels=tmp_path / "gone.txt")


def test_examples_of_another_model_are_told(house: House, iris_file: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    assert "'t.csv' lacks 'x1', 'x2', 'x3', 'x4'" in refused(
        house, iris_file, examples=tmp_path / "t.csv"
    )


@pytest.mark.parametrize("ending", [".joblib", ".pkl", ".skops"])
def test_truncated_files_are_refused(house: House, tmp_path: Path, iris: Any, ending: str) -> None:
    import joblib

    path = tmp_path / f"iris{ending}"
    if ending == ".skops":
        pytest.importorskip("skops.io").dump(iris, path)
    elif ending == ".joblib":
        joblib.dump(iris, path, compress=3)
    else:
        path.write_bytes(pickle.dumps(iris))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert path.name in refused(house, path)


def test_an_unknown_operator_is_told(house: House, tmp_path: Path) -> None:
    made = model([node("Teleport", ["x"], ["y"])], [("x", 1, ["n", 2])], [("y", 1, ["n", 2])])
    assert "Teleport" in refused(house, saved(tmp_path / "m.onnx", made))


def test_what_is_no_estimator_is_told(house: House, tmp_path: Path) -> None:
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    assert refused(house, path) == "'list.pkl' holds a list; a fitted estimator is expected"


def test_a_module_that_is_missing_is_told(house: House, tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x04cnot_installed_here\nThing\n.")
    assert "No module named 'not_installed_here'" in refused(house, path)


# A pickle runs in the sandbox, and nowhere else.


def test_nothing_of_a_pickle_runs_outside_the_sandbox(
    house: House, tmp_path: Path, iris: Any
) -> None:
    bird = tmp_path / "canary"
    path = tmp_path / "iris.pkl"
    path.write_bytes(canary(bird, iris))
    imported = house.run(path)
    (sang,) = bird.read_text().splitlines()
    folder, namespace, process = sang.split()
    assert folder.startswith(str(house.state / "staging"))
    assert int(process) != os.getpid()
    assert not hasattr(sys, "portico_canary")
    if imported.was_alone:
        assert namespace != str(Path("/proc/self/ns/pid").readlink())
    assert house.run(path).version == 1
    assert len(bird.read_text().splitlines()) == 1


def test_a_pickle_in_disguise_is_never_opened(house: House, tmp_path: Path, iris: Any) -> None:
    bird = tmp_path / "canary"
    for ending in (".onnx", ".json", ".ubj", ".txt", ".skops", ".pt2", ".py"):
        path = tmp_path / f"model{ending}"
        path.write_bytes(canary(bird, iris))
        assert "is a pickle" in refused(house, path)
    assert not bird.exists()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("while True: pass", "within 4 seconds (setting import_seconds)"),
        ("x = []\nwhile True: x.append(bytearray(1 << 26))", "needs more memory"),
        ("open('big', 'wb').write(bytes(64 << 20))", "File too large"),
        ("import os; os._exit(0)", "ended the process before it was opened"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("open('outcome.json', 'w').write('{}'); import os; os._exit(0)", "cannot be read"),
        ("open('outcome.json', 'w').write('[1'); import os; os._exit(0)", "makes no sense"),
        ("import os; os.symlink('/etc/passwd', 'outcome.json'); os._exit(0)", "before it was"),
        ("raise ValueError('\\x1b[31mred\\x07\\nnext')", "cannot be opened"),
    ],
)
def test_a_model_that_misbehaves_is_ended_and_told(
    house: House, tmp_path: Path, code: str, told: str
) -> None:
    seconds = 4 if "import_seconds" in told else 30
    house.limits = Limits(seconds=seconds, memory=3 << 30, disk=32 << 20, source=32 << 20)
    path = tmp_path / "model.pkl"
    path.write_bytes(running(code))
    message = refused(house, path)
    assert told in message
    assert message.isprintable()


# The stores fail, or the disk is full.


class Failing:
    """Hands everything on to a store but one method, which fails."""

    def __init__(self, store: Any, method: str) -> None:
        self._store = store
        self._method = method

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            return self._fail
        return getattr(self._store, name)

    def _fail(self, *_: Any, **__: Any) -> VersionRecord:
        raise ArtefactError("the store has failed")


@pytest.mark.parametrize(
    ("store", "method"),
    [("versions", "reserve"), ("artefacts", "put"), ("versions", "publish")],
)
def test_a_store_that_fails_leaves_nothing_behind(
    house: House, iris_file: Path, store: str, method: str
) -> None:
    whole = getattr(house, store)
    setattr(house, store, Failing(whole, method))
    with pytest.raises(ArtefactError, match="the store has failed"):
        house.run(iris_file)
    setattr(house, store, whole)
    assert house.versions.state().versions == ()
    assert house.leftovers() == []
    assert house.run(iris_file).version == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, iris_file: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "portico-test", str(disk)], check=False
    )
    if done.returncode:
        pytest.skip("this system mounts nothing")
    try:
        house = house_at(disk / "state")
        # Ever more room, so that the disk is full at one step after the other.
        for room in (4 << 10, 24 << 10, 48 << 10):
            found = os.statvfs(disk)
            fill = disk / "fill"
            fill.write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - room)))
            with pytest.raises(ServingError, match=r"no space left|database cannot be used"):
                house.run(iris_file)
            fill.unlink()
            house.importer.clean()
            assert house.versions.state().versions == ()
            assert house.leftovers() == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_two_imports_at_once_get_a_version_each(house: House, iris_file: Path, table: Path) -> None:
    failed: list[BaseException] = []

    def run(**order: Any) -> None:
        try:
            house.run(iris_file, **order)
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=run),
        threading.Thread(target=run, kwargs={"examples": table}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [record.version for record in house.versions.state().versions] == [1, 2]
    assert house.leftovers() == []
