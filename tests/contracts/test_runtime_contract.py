"""What every runtime keeps to, whatever framework is behind it."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="one of the runtimes is scikit-learn's")
pytest.importorskip("xgboost", reason="one of the runtimes is XGBoost's")
pytest.importorskip("lightgbm", reason="one of the runtimes is LightGBM's")
pytest.importorskip("onnx", reason="a booster is compiled for the ONNX runtime")

import joblib
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from tiny_boosters import numbers, saved, target, train_lightgbm, train_xgboost

from portico.serving.allowance import Allowance
from portico.serving.errors import ModelRefused, ServingError
from portico.serving.golden import same
from portico.serving.importing.compilers.boosters import compile_booster, ensemble_of
from portico.serving.runtimes.registry import open_runtime
from portico.serving.signature_json import signature_from_json, signature_to_json
from portico.serving.tensors import Datatype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loadtests.server import Server
    from portico.serving.ports import Runtime
    from portico.serving.tensors import Tensors

ROWWISE = """
from typing import Literal, TypedDict

class Answer(TypedDict):
    label: Literal["low", "high"]
    score: float

def predict(size: float, count: int, colour: str, is_new: bool, age: float | None) -> Answer:
    score = size * count + len(colour) + is_new - (age or 0.0)
    return {"label": "high" if score > 0 else "low", "score": score}
"""
COLUMNS = """
import numpy as np
from numpy.typing import NDArray

def predict(weight: NDArray[np.float32], height: NDArray[np.float64]) -> NDArray[np.float64]:
    return weight / (height**2 + 1)
"""


def onnx(folder: Path) -> Path:
    native = open_runtime(xgboost(folder), 1, Allowance.of(folder))
    path = folder / "model.onnx"
    model = compile_booster(ensemble_of(folder / "model.ubj"), native.signature)
    path.write_bytes(model.SerializeToString())
    return path


def sklearn(folder: Path) -> Path:
    x = np.nan_to_num(numbers())
    joblib.dump(LogisticRegression().fit(x, target("multi")), folder / "model.joblib")
    return folder / "model.joblib"


def xgboost(folder: Path) -> Path:
    return saved(folder / "model.ubj", train_xgboost("multi:softprob", categories=True))


def xgboost_linear(folder: Path) -> Path:
    return saved(folder / "model.json", train_xgboost("count:poisson", booster="gblinear"))


def lightgbm(folder: Path) -> Path:
    return saved(folder / "model.txt", train_lightgbm("binary", categories=True))


def python_rows(folder: Path) -> Path:
    (folder / "model.py").write_text(ROWWISE)
    return folder / "model.py"


def python_columns(folder: Path) -> Path:
    (folder / "model.py").write_text(COLUMNS)
    return folder / "model.py"


def torch(folder: Path) -> Path:
    from tiny_torch import exported

    return exported(folder / "model.pt2")


class Case(NamedTuple):
    """A runtime that is open, and how another one like it is opened."""

    runtime: Runtime
    again: Callable[[], Runtime]


has_torch = importlib.util.find_spec("torch") is not None


@pytest.fixture(
    scope="module",
    params=[
        onnx, sklearn, xgboost, xgboost_linear, lightgbm, python_rows, python_columns,
        pytest.param(torch, marks=pytest.mark.skipif(not has_torch, reason="torch is not there")),
        pytest.param("remote", marks=pytest.mark.live),
    ],
    ids=lambda param: getattr(param, "__name__", param),
)  # fmt: skip
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("runtime")
    if request.param == "remote":
        server: Server = request.getfixturevalue("demo_server")
        path = folder / "model.remote.toml"
        path.write_text(f'url = "{server.url}"\nmodel = "iris"\n')
    else:
        path = request.param(folder)
    allowance = Allowance.of(folder)
    allowance.allow(path)

    def again() -> Runtime:
        return open_runtime(path, 1, allowance)

    runtime = again()
    yield Case(runtime, again)
    runtime.close()


def rows_for(runtime: Runtime, count: int, seed: int = 0) -> Tensors:
    """Return rows that fit the signature, with gaps where it allows them."""
    rng = np.random.default_rng(seed)
    rows: Tensors = {}
    optional = {f.tensor for f in runtime.signature.features if f.optional}
    for spec in runtime.signature.inputs:
        shape = (count, *(abs(size) for size in spec.shape[1:]))
        if spec.datatype is Datatype.BYTES:
            rows[spec.name] = rng.choice(np.array(["", "red", "blüe"], dtype=object), shape)
        elif spec.datatype.is_float:
            values = rng.normal(scale=3, size=shape)
            if spec.name in optional:
                values[rng.random(shape) < 0.1] = np.nan
            rows[spec.name] = values.astype(spec.datatype.dtype)
        else:
            rows[spec.name] = rng.integers(0, 2, shape).astype(spec.datatype.dtype)
    return rows


def part(tensors: Tensors, rows: slice) -> Tensors:
    return {name: array[rows] for name, array in tensors.items()}


def assert_same(expected: Tensors, found: Tensors) -> None:
    assert list(expected) == list(found)
    for name in expected:
        assert same(expected[name], found[name]), (name, expected[name], found[name])


def test_its_signature_survives_being_written(case: Case) -> None:
    signature = case.runtime.signature
    assert signature_from_json(signature_to_json(signature)) == signature
    assert signature.inputs
    assert signature.outputs
    assert "_" in case.runtime.platform


@pytest.mark.parametrize("count", [1, 2, 100])
def test_its_outputs_are_what_it_declares(case: Case, count: int) -> None:
    given = case.runtime.run(rows_for(case.runtime, count), None)
    assert list(given) == [spec.name for spec in case.runtime.signature.outputs]
    for spec in case.runtime.signature.outputs:
        assert given[spec.name].dtype == spec.datatype.dtype
        assert spec.admits(given[spec.name].shape)
        assert len(given[spec.name]) == count


def test_no_rows_are_refused_or_give_no_rows(case: Case) -> None:
    try:
        given = case.runtime.run(rows_for(case.runtime, 0), None)
    except ModelRefused:
        return
    assert {len(array) for array in given.values()} == {0}


def test_outputs_come_as_asked_for(case: Case) -> None:
    names = [spec.name for spec in case.runtime.signature.outputs]
    rows = rows_for(case.runtime, 4)
    everything = case.runtime.run(rows, None)
    backwards = case.runtime.run(rows, tuple(names[::-1]))
    assert list(backwards) == names[::-1]
    for name in names:
        alone = case.runtime.run(rows, (name,))
        assert list(alone) == [name]
        assert same(everything[name], alone[name])
        assert same(everything[name], backwards[name])


def test_what_it_is_given_stays_as_it_was(case: Case) -> None:
    rows = rows_for(case.runtime, 5)
    for array in rows.values():
        array.flags.writeable = False
    first = case.runtime.run(rows, None)
    assert_same(first, case.runtime.run(rows_for(case.runtime, 5), None))


def test_many_threads_get_the_answers_of_one(case: Case) -> None:
    batches = [rows_for(case.runtime, 1 + seed % 5, seed) for seed in range(32)]
    expected = [case.runtime.run(batch, None) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda batch: case.runtime.run(batch, None), batches * 3))
    for one, many in zip(expected * 3, found, strict=True):
        assert_same(one, many)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 40), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_a_row_gets_the_same_answer_alone_and_in_company(
    case: Case, count: int, seed: int, data: Any
) -> None:
    rows = rows_for(case.runtime, count, seed)
    row = data.draw(st.integers(0, count - 1))
    together = case.runtime.run(rows, None)
    assert_same(
        part(together, slice(row, row + 1)),
        case.runtime.run(part(rows, slice(row, row + 1)), None),
    )


def test_another_number_of_columns_is_refused(case: Case) -> None:
    if len(case.runtime.signature.inputs) > 1:
        pytest.skip("each column is an input of its own")
    rows = rows_for(case.runtime, 3)
    wide = {name: np.concatenate([array, array], axis=1) for name, array in rows.items()}
    with pytest.raises(ModelRefused):
        case.runtime.run(wide, None)


def test_values_of_another_type_are_a_failure_that_is_told(case: Case) -> None:
    rows = {
        name: np.full(array.shape, object(), dtype=object)
        for name, array in rows_for(case.runtime, 2).items()
    }
    with pytest.raises(ServingError):
        case.runtime.run(rows, None)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_numbers_are_answered_or_refused(case: Case) -> None:
    for value in (np.inf, -np.inf, np.finfo(np.float32).max, -1e-40, 1e9):
        rows = rows_for(case.runtime, 2)
        for array in rows.values():
            if array.dtype.kind == "f":
                array[:] = value
        with contextlib.suppress(ModelRefused):
            case.runtime.run(rows, None)


def test_nothing_holds_it_once_it_is_closed(case: Case) -> None:
    runtime = case.again()
    runtime.run(rows_for(runtime, 2), None)
    runtime.close()
    gone = weakref.ref(runtime)
    del runtime
    gc.collect()
    assert gone() is None
