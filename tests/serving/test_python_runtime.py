"""Python functions: annotations become a signature, and nothing runs that was not allowed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.codecs.rows import tensors_from_rows
from portico.serving.errors import (
    ArtefactError,
    ArtefactNotAllowed,
    InvalidInput,
    ModelFailed,
    ModelRefused,
)
from portico.serving.runtimes.python import PythonModel
from portico.serving.runtimes.registry import open_runtime
from portico.serving.signature import AnswerKind, Kind
from portico.serving.tensors import Datatype

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def opened(code: str) -> PythonModel:
    return PythonModel(dedent(code).encode(), Path("model.py"))


def refusal(code: str) -> str:
    with pytest.raises(ArtefactError) as caught:
        opened(code)
    return caught.value.message


def ask(model: Any, *rows: dict[str, Any]) -> dict[str, list[Any]]:
    answer = model.run(tensors_from_rows(model.signature, rows), None)
    return {name: array.tolist() for name, array in answer.items()}


ADD = "def predict(a: float, b: float) -> float:\n    return a + b\n"


# One function, row by row.


def test_parameters_are_the_features() -> None:
    model = opened(
        """
        from typing import Literal
        def predict(size: float, rooms: int, has_garden: bool, town: str,
                    heating: Literal["gas", "oil"], age: float | None = None,
                    note: str | None = None, floor: float = 1.5) -> float:
            return size * 2 + rooms + (10 if age is None else age) + (note is None)
        """
    )
    told = {f.name: (f.kind, f.optional, f.default) for f in model.signature.features}
    assert told == {
        "size": (Kind.NUMBER, False, None),
        "rooms": (Kind.INTEGER, False, None),
        "has_garden": (Kind.BOOLEAN, False, None),
        "town": (Kind.TEXT, False, None),
        "heating": (Kind.TEXT, False, None),
        "age": (Kind.NUMBER, True, None),
        "note": (Kind.TEXT, True, None),
        "floor": (Kind.NUMBER, False, 1.5),
    }
    assert [c.value for c in model.signature.feature_by_name["heating"].choices] == ["gas", "oil"]
    assert [s.shape for s in model.signature.inputs] == [(-1, 1)] * 8
    row = {"size": 3, "rooms": 2, "has_garden": True, "town": "Ulm", "heating": "gas", "floor": 0}
    assert ask(model, {**row, "age": None, "note": None}, {**row, "age": 4, "note": "x"}) == {
        "prediction": [19.0, 12.0]
    }
    assert model.signature.answer.kind is AnswerKind.REGRESSION


@pytest.mark.parametrize(
    ("annotation", "value", "output", "datatype", "kind"),
    [
        ("float", "0.5", "prediction", Datatype.FP64, AnswerKind.REGRESSION),
        ("float", "1", "prediction", Datatype.FP64, AnswerKind.REGRESSION),
        ("float", "None", "prediction", Datatype.FP64, AnswerKind.REGRESSION),
        ("int", "3", "prediction", Datatype.INT64, AnswerKind.REGRESSION),
        ("str", "'red'", "label", Datatype.BYTES, AnswerKind.CLASSIFICATION),
        ("bool", "True", "label", Datatype.BOOL, AnswerKind.CLASSIFICATION),
        ("Literal['a', 'b']", "'b'", "label", Datatype.BYTES, AnswerKind.CLASSIFICATION),
    ],
)
def test_what_it_returns_is_the_output(
    annotation: str, value: str, output: str, datatype: Datatype, kind: AnswerKind
) -> None:
    model = opened(
        f"from typing import Literal\ndef predict(x: float) -> {annotation}:\n    return {value}\n"
    )
    (spec,) = model.signature.outputs
    assert (spec.name, spec.datatype, spec.shape) == (output, datatype, (-1,))
    assert model.signature.answer.kind is kind
    given = model.run({"x": np.zeros((2, 1))}, None)[output]
    assert given.dtype == datatype.dtype
    np.testing.assert_array_equal(given, [eval(value)] * 2 if value != "None" else [np.nan] * 2)


def test_choices_of_the_answer_are_its_classes() -> None:
    model = opened(
        """
        from typing import Literal
        def predict(x: float) -> Literal["no", "yes"]:
            return "yes" if x > 0 else "no"
        """
    )
    assert model.signature.answer.classes == ("no", "yes")


def test_a_typed_dict_is_several_outputs() -> None:
    model = opened(
        """
        from __future__ import annotations
        from typing import TypedDict
        class Answer(TypedDict):
            label: str
            score: float
        def predict(x: float) -> Answer:
            return {"label": "high" if x > 1 else "low", "score": x / 2}
        """
    )
    assert ask(model, {"x": 1}, {"x": 3}) == {"label": ["low", "high"], "score": [0.5, 1.5]}
    assert list(model.run({"x": np.ones((1, 1))}, ("score",))) == ["score"]


def test_a_value_error_is_a_refusal_with_its_sentence() -> None:
    model = opened(
        """
        def predict(age: float) -> float:
            if age < 0:
                raise ValueError("age must be at least 0")
            return 100 / age
        """
    )
    with pytest.raises(ModelRefused, match="age must be at least 0"):
        ask(model, {"age": -1})
    with pytest.raises(ModelFailed, match="the model failed on this input"):
        ask(model, {"age": 0})


@pytest.mark.parametrize("value", ["'text'", "None", "[1]", "object()", "{'a': 1}"])
def test_another_type_than_annotated_is_a_failure(value: str) -> None:
    model = opened(f"def predict(x: float) -> int:\n    return {value}\n")
    with pytest.raises(ModelFailed, match=r"another type|gave no 'prediction'"):
        ask(model, {"x": 1})


def test_a_call_of_exit_ends_nothing() -> None:
    model = opened("import sys\ndef predict(x: float) -> float:\n    sys.exit(3)\n")
    with pytest.raises(ModelFailed):
        ask(model, {"x": 1})


# All rows at once.


def test_arrays_are_columns_and_the_function_is_called_once() -> None:
    model = opened(
        """
        import numpy as np
        from numpy.typing import NDArray
        calls = []
        def predict(weight: np.ndarray, count: NDArray[np.int64]) -> NDArray[np.float32]:
            calls.append(weight.shape)
            return weight * count
        """
    )
    assert [(s.datatype, s.shape) for s in model.signature.inputs] == [
        (Datatype.FP64, (-1, 1)),
        (Datatype.INT64, (-1, 1)),
    ]
    rows = [{"weight": 2.5, "count": i} for i in range(4)]
    assert ask(model, *rows) == {"prediction": [0.0, 2.5, 5.0, 7.5]}
    assert model._module.calls == [(4,)]


def test_an_array_of_another_length_is_a_failure() -> None:
    model = opened(
        """
        import numpy as np
        def predict(x: np.ndarray) -> np.ndarray:
            return x[:1]
        """
    )
    with pytest.raises(ModelFailed, match=r"in shape \[1\]"):
        ask(model, {"x": 1}, {"x": 2})


def test_larger_tensors_are_declared() -> None:
    model = opened(
        """
        inputs = {"pixels": ("FP32", [-1, 2, 3]), "gain": ("FP32", [-1, 1])}
        outputs = {"mean": ("FP32", [-1]), "name": ("BYTES", [-1])}
        def predict(pixels, gain):
            import numpy as np
            return {"mean": pixels.mean(axis=(1, 2)) * gain[:, 0],
                    "name": np.array(["a"] * len(gain))}
        """
    )
    assert [f.kind for f in model.signature.features] == [Kind.TENSOR, Kind.NUMBER]
    pixels = np.ones((2, 2, 3), dtype=np.float32)
    gain = np.array([[1], [3]], dtype=np.float32)
    given = model.run({"pixels": pixels, "gain": gain}, ("name", "mean"))
    assert {name: array.tolist() for name, array in given.items()} == {
        "name": ["a", "a"],
        "mean": [1.0, 3.0],
    }


# What cannot be served.


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1", "has no function 'predict'"),
        ("def predict(:\n", r"'model.py', line 1"),
        ("import portico_missing_module", "imports portico_missing_module, which is not installed"),
        ("raise RuntimeError('no weights')", "while it was loaded: RuntimeError: no weights"),
        ("import sys\nsys.exit(2)", "failed while it was loaded: SystemExit"),
        ("def predict() -> float: ...", "must be a parameter with a name"),
        ("def predict(*rows) -> float: ...", "must be a parameter with a name"),
        ("def predict(x) -> float: ...", "'x' has no annotation"),
        ("def predict(x: complex) -> float: ...", "'x' has the annotation"),
        ("def predict(x: int | None) -> float: ...", "'x' cannot be missing"),
        ("def predict(x: float): ...", "'what predict returns' has no annotation"),
        ("def predict(x: 'Gone') -> float: ...", "annotations of predict cannot be read"),
        ("import numpy as np\ndef predict(x: np.ndarray) -> float: ...", "throughout, or arrays"),
        ("inputs = {'a': ('FP32', [-1])}\ndef predict(a): ...", "outputs must be like"),
        ("inputs = {'a': ('FP31', [-1])}\noutputs = inputs\ndef predict(a): ...", "inputs must be"),
        ("inputs = {'a': ('FP32', [-1])}\noutputs = inputs\ndef predict(b): ...", "takes b"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_told(code: str, reason: str) -> None:
    assert reason in refusal(code)


def test_code_that_was_not_allowed_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "models" / "add" / "1" / "model.py"
    path.parent.mkdir(parents=True)
    path.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'canary')!r}).touch()\n{ADD}")
    allowance = Allowance.of(tmp_path)
    with pytest.raises(ArtefactNotAllowed, match=r"add/1/model\.py' executes code"):
        open_runtime(path, 1, allowance)
    assert not (tmp_path / "canary").exists()
    allowance.allow(path)
    assert ask(open_runtime(path, 1, allowance), {"a": 1, "b": 2}) == {"prediction": [3.0]}
    assert (tmp_path / "canary").exists()


def test_files_beside_the_code_are_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "add" / "1"
    folder.mkdir(parents=True)
    for name in ("model.py", "weights.joblib", "notes.txt", "helpers.py"):
        (folder / name).write_text(ADD)
    (artefact,) = find_artefacts(tmp_path)
    assert artefact.file().name == "model.py"


def test_a_closed_model_leaves_no_module_behind() -> None:
    model = opened(ADD)
    name = model._module.__name__
    assert name in sys.modules
    model.close()
    assert name not in sys.modules


# The documentation.


def examples() -> dict[str, str]:
    text = DOCS.read_text()
    blocks = re.findall(r"```python\n# models/(\w+)/1/model\.py\n(.*?)```", text, re.DOTALL)
    return dict(blocks)


def test_the_examples_of_the_documentation_run(tmp_path: Path) -> None:
    (tmp_path / "per_km.csv").write_text("2.0")
    models = {}
    for name, code in examples().items():
        path = tmp_path / "model.py"
        path.write_text(code)
        models[name] = PythonModel(code.encode(), path)
    fare = {"distance": 10, "zone": "city", "passengers": 2, "discount": 1}
    assert ask(models["fare"], fare, {**fare, "zone": "country", "discount": None}) == {
        "prediction": pytest.approx([28.7, 23.7])
    }
    with pytest.raises(InvalidInput, match="it must be one of"):
        ask(models["fare"], {**fare, "zone": "moon"})
    with pytest.raises(ModelRefused, match="distance must be at least 0"):
        ask(models["fare"], {**fare, "distance": -1})
    assert ask(models["bmi"], {"weight": 80, "height": 2}) == {"prediction": [20.0]}
    pixels = np.full((1, 28, 28), 0.25, dtype=np.float32)
    assert models["bright"].run({"pixels": pixels}, None)["brightness"].tolist() == [0.25]
