"""ONNX models: what is read from a file, what is refused and why, and what comes out of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

import onnx
import onnxruntime
from onnx import TensorProto, helper
from tiny_onnx import FLOAT, INT64, STRING, classifier, constant, double, model, node, saved

from portico.serving.codecs.json_tensors import (
    decode_request,
    encode_response,
    tensors_of,
)
from portico.serving.errors import ArtefactError, ModelFailed, ModelRefused
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.signature import AnswerKind, Signature
from portico.serving.tensors import Array, Datatype, Tensors

if TYPE_CHECKING:
    from collections.abc import Callable

ASSETS = Path(__file__).parents[2].parent / "shared" / "assets"
TITANIC = ASSETS / "ovh-titanic"
needs_titanic = pytest.mark.skipif(not TITANIC.is_dir(), reason=f"{TITANIC} is not there")

DATATYPES = {
    TensorProto.BOOL: Datatype.BOOL,
    TensorProto.UINT8: Datatype.UINT8,
    TensorProto.UINT16: Datatype.UINT16,
    TensorProto.UINT32: Datatype.UINT32,
    TensorProto.UINT64: Datatype.UINT64,
    TensorProto.INT8: Datatype.INT8,
    TensorProto.INT16: Datatype.INT16,
    TensorProto.INT32: Datatype.INT32,
    TensorProto.INT64: Datatype.INT64,
    TensorProto.FLOAT16: Datatype.FP16,
    TensorProto.FLOAT: Datatype.FP32,
    TensorProto.DOUBLE: Datatype.FP64,
    TensorProto.STRING: Datatype.BYTES,
}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[Any], ONNXModel]:
    def open_model(made: Any) -> ONNXModel:
        return ONNXModel(saved(tmp_path / "some folder" / "model.onnx", made), 1)

    return open_model


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Any], str]:
    """Return why a file is not served; the reason must not tell where it lies."""

    def refuse(content: Any) -> str:
        path = tmp_path / "Größe of my models" / "model.onnx"
        path.parent.mkdir()
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        with pytest.raises(ArtefactError) as caught:
            ONNXModel(path, 1)
        message = caught.value.message
        told = [part for part in (*tmp_path.parts[1:], "Größe", "my models") if part in message]
        assert not told
        assert "/onnxruntime" not in message
        assert "\n" not in message
        return message

    return refuse


def floats(*rows: list[float]) -> Array:
    return np.array(rows, dtype=np.float32)


def shapes(signature: Signature) -> dict[str, tuple[Datatype, tuple[int, ...]]]:
    return {s.name: (s.datatype, s.shape) for s in (*signature.inputs, *signature.outputs)}


# What is read from a file.


@pytest.mark.parametrize("kind", DATATYPES, ids=DATATYPES.values())
def test_every_datatype_goes_in_and_comes_out_as_it_was(
    opened: Callable[[Any], ONNXModel], kind: int
) -> None:
    datatype = DATATYPES[kind]
    ports = [("x", kind, ["n", 2])], [("y", kind, ["n", 2])]
    runtime = opened(model([node("Identity", ["x"], ["y"])], *ports))
    assert shapes(runtime.signature) == {"x": (datatype, (-1, 2)), "y": (datatype, (-1, 2))}
    values: Any = ["ü", ""] if datatype is Datatype.BYTES else [1, 0]
    if datatype is Datatype.BOOL:
        values = [True, False]
    sent = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": datatype, "data": values}]}
    request = decode_request(json.dumps(sent).encode())
    answer = runtime.run(tensors_of(request, runtime.signature), None)
    assert answer["y"].dtype == datatype.dtype
    response = json.loads(encode_response("m", "1", answer, msgspec.UNSET))
    assert response["outputs"] == [
        {"name": "y", "datatype": datatype, "shape": [1, 2], "data": values}
    ]


def test_the_protocol_has_a_test_for_each_datatype() -> None:
    assert set(DATATYPES.values()) == set(Datatype)


def test_several_inputs_of_several_kinds_are_one_feature_each(
    opened: Callable[[Any], ONNXModel],
) -> None:
    runtime = opened(
        model(
            [node("Identity", ["age"], ["a"]), node("Identity", ["sex"], ["s"])],
            [("age", FLOAT, ["n", 1]), ("sex", STRING, ["n", 1])],
            [("a", FLOAT, ["n", 1]), ("s", STRING, ["n", 1])],
        )
    )
    assert [(f.name, f.kind) for f in runtime.signature.features] == [
        ("age", "number"),
        ("sex", "text"),
    ]
    answer = runtime.run({"age": floats([3]), "sex": np.array([["f"]], dtype=object)}, None)
    assert list(answer) == ["a", "s"]
    assert answer["s"].tolist() == [["f"]]


def test_only_the_outputs_asked_for_come_out_in_that_order(
    opened: Callable[[Any], ONNXModel],
) -> None:
    runtime = opened(classifier(zipmap=False))
    assert list(runtime.run({"x": floats([1, 0])}, ("scores", "label"))) == ["scores", "label"]
    assert list(runtime.run({"x": floats([1, 0])}, ("scores",))) == ["scores"]


@pytest.mark.parametrize("classes", [(0, 1), (7, -3, 12), ("no", "ja ü")])
def test_a_zipmap_becomes_a_matrix_with_a_column_a_class(
    opened: Callable[[Any], ONNXModel], classes: tuple[Any, ...]
) -> None:
    runtime = opened(classifier(classes))
    signature = runtime.signature
    assert shapes(signature)["probabilities"] == (Datatype.FP32, (-1, len(classes)))
    assert signature.answer.kind is AnswerKind.CLASSIFICATION
    assert (signature.answer.label, signature.answer.scores) == ("label", "probabilities")
    assert sorted(signature.answer.classes) == sorted(classes)  # type: ignore[type-var]
    answer = runtime.run({"x": floats([9, 0], [0, 9])}, None)
    assert answer["label"].tolist() == [classes[0], classes[1]]
    probabilities = answer["probabilities"]
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (2, len(classes)))
    column = signature.answer.classes.index(classes[0])
    assert probabilities[0, column] > 0.99
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert list(runtime.run({"x": floats([1, 0])}, ("probabilities",))) == ["probabilities"]


def test_a_label_declared_as_one_has_as_many_as_there_are_rows(
    opened: Callable[[Any], ONNXModel],
) -> None:
    runtime = opened(classifier(zipmap=False, label_shape=[1]))
    assert shapes(runtime.signature)["label"] == (Datatype.INT64, (-1,))
    assert runtime.run({"x": floats([1, 0], [0, 1])}, None)["label"].shape == (2,)


def test_a_rank_that_was_declared_wrong_is_mended(opened: Callable[[Any], ONNXModel]) -> None:
    # What ONNX Runtime infers it corrects itself; what is squeezed away depends on the number n.
    made = model(
        [node("Squeeze", ["x"], ["y"])], [("x", FLOAT, ["n", 1, 4])], [("y", FLOAT, ["n"])]
    )
    assert shapes(opened(made).signature)["y"] == (Datatype.FP32, (-1, 4))


def test_dynamic_axes_stay_variable(opened: Callable[[Any], ONNXModel]) -> None:
    runtime = opened(double(shape=("n", "width", 3)))
    assert shapes(runtime.signature)["x"] == (Datatype.FP32, (-1, -1, 3))
    assert shapes(runtime.signature)["y"] == (Datatype.FP32, (-1, -1, 3))
    assert runtime.run({"x": np.ones((2, 5, 3), np.float32)}, None)["y"].shape == (2, 5, 3)


def test_a_fixed_batch_of_one_stays_fixed(opened: Callable[[Any], ONNXModel]) -> None:
    runtime = opened(double(shape=(1, 3)))
    assert not runtime.signature.is_batched
    assert shapes(runtime.signature) == {
        "x": (Datatype.FP32, (1, 3)),
        "y": (Datatype.FP32, (1, 3)),
    }
    assert [f.name for f in runtime.signature.features] == ["x1", "x2", "x3"]


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (4,)])
def test_inputs_without_a_batch_axis_keep_their_shape(
    opened: Callable[[Any], ONNXModel], shape: tuple[int, ...]
) -> None:
    """Three elements are not taken for the three rows of the trial run."""
    runtime = opened(double(shape=shape))
    assert shapes(runtime.signature) == {"x": (Datatype.FP32, shape), "y": (Datatype.FP32, shape)}
    assert runtime.run({"x": np.ones(shape, np.float32)}, None)["y"].shape == shape


def test_a_model_that_takes_no_blanks_keeps_its_declared_shapes(
    opened: Callable[[Any], ONNXModel],
) -> None:
    table = constant("table", FLOAT, [2], [10.0, 20.0])
    indexes = constant("one", INT64, [1], [-5])
    made = model(
        [node("Add", ["x", "one"], ["i"]), node("Gather", ["table", "i"], ["y"])],
        [("x", INT64, ["n"])],
        [("y", FLOAT, ["n"])],
        [table, indexes],
    )
    runtime = opened(made)
    assert shapes(runtime.signature)["y"] == (Datatype.FP32, (-1,))
    assert runtime.run({"x": np.array([5, 6])}, None)["y"].tolist() == [10.0, 20.0]


def test_a_regression_is_told_by_its_lone_value(opened: Callable[[Any], ONNXModel]) -> None:
    made = model(
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
        [("x", FLOAT, ["n", 2])],
        [("y", FLOAT, ["n", 1])],
        [constant("axes", INT64, [1], [1])],
    )
    answer = opened(made).signature.answer
    assert (answer.kind, answer.value) == (AnswerKind.REGRESSION, "y")


# What is refused.


def test_a_file_that_is_no_model_is_refused(refused: Callable[[Any], str]) -> None:
    assert refused(b"no model").startswith("'model.onnx' cannot be opened as ONNX: ")


def test_an_empty_file_is_refused(refused: Callable[[Any], str]) -> None:
    assert refused(b"").startswith("'model.onnx' ")


def test_a_truncated_file_is_refused(refused: Callable[[Any], str]) -> None:
    whole = classifier().SerializeToString()
    assert "cannot be opened as ONNX" in refused(whole[: len(whole) // 2])


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"'gone\.onnx' cannot be opened") as caught:
        ONNXModel(tmp_path / "gone.onnx", 1)
    assert str(tmp_path) not in caught.value.message


def test_a_relative_path_leaves_the_reason_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(
        Path("model.onnx"),
        model(
            [node("Frob", ["x"], ["y"], name="layer1/a/b")],
            [("x", FLOAT, ["n"])],
            [("y", FLOAT, ["n"])],
        ),
    )
    with pytest.raises(ArtefactError, match=r"layer1/a/b"):
        ONNXModel(Path("model.onnx"), 1)


def test_an_operator_that_nobody_knows_is_named(refused: Callable[[Any], str]) -> None:
    made = model([node("Frobnicate", ["x"], ["y"])], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])])
    assert "Frobnicate" in refused(made)


def test_a_model_without_inputs_is_refused(refused: Callable[[Any], str]) -> None:
    value = helper.make_tensor("value", FLOAT, [1], [1.0])
    made = model([node("Constant", [], ["y"], value=value)], [], [("y", FLOAT, [1])])
    assert "has no inputs" in refused(made)


def _sequence(name: str) -> Any:
    tensor = helper.make_tensor_type_proto(FLOAT, ["n"])
    return helper.make_value_info(name, helper.make_sequence_type_proto(tensor))


def test_an_input_that_is_a_sequence_is_refused(refused: Callable[[Any], str]) -> None:
    made = model(
        [node("SequenceAt", ["xs", "i"], ["y"])],
        [_sequence("xs")],
        [("y", FLOAT, ["n"])],
        [constant("i", INT64, [], [0])],
    )
    assert refused(made) == ("input 'xs' is a seq(tensor(float)); only tensors can be served")


def test_an_input_that_is_a_map_is_refused(refused: Callable[[Any], str]) -> None:
    one = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    made = model(
        [node("DictVectorizer", ["d"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a"])],
        [helper.make_value_info("d", one)],
        [("y", FLOAT, [1, 1])],
    )
    assert refused(made).startswith("input 'd' is a map(string,tensor(float)); only tensors")


def test_an_input_that_is_optional_is_refused(refused: Callable[[Any], str]) -> None:
    tensor = helper.make_tensor_type_proto(FLOAT, ["n"])
    optional = helper.make_value_info("x", helper.make_optional_type_proto(tensor))
    made = model(
        [node("OptionalGetElement", ["x"], ["y"])], [optional], [("y", FLOAT, ["n"])], opset=18
    )
    assert refused(made) == "input 'x' is a optional(tensor(float)); only tensors can be served"


def test_an_output_that_is_a_sequence_is_refused(refused: Callable[[Any], str]) -> None:
    made = model(
        [node("SequenceConstruct", ["x"], ["ys"])], [("x", FLOAT, ["n"])], [_sequence("ys")]
    )
    assert refused(made).startswith("output 'ys' is a seq(tensor(float))")


def test_a_bfloat16_output_is_refused(refused: Callable[[Any], str]) -> None:
    made = model(
        [node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)],
        [("x", FLOAT, ["n"])],
        [("y", TensorProto.BFLOAT16, ["n"])],
    )
    assert refused(made) == ("output 'y' holds bfloat16, which the protocol has no datatype for")


def test_missing_external_data_are_named_without_their_place(tmp_path: Path) -> None:
    values = np.ones(4096, np.float32).tolist()
    made = model(
        [node("Add", ["x", "w"], ["y"])],
        [("x", FLOAT, ["n", 4096])],
        [("y", FLOAT, ["n", 4096])],
        [constant("w", FLOAT, [4096], values)],
    )
    path = tmp_path / "secret folder" / "model.onnx"
    path.parent.mkdir()
    for tensor in made.graph.initializer:
        tensor.raw_data = np.asarray(values, np.float32).tobytes()
        tensor.ClearField("float_data")
    onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=10)
    assert ONNXModel(path, 1).run({"x": np.zeros((1, 4096), np.float32)}, None)["y"].sum() == 4096
    (path.parent / "weights.bin").unlink()
    with pytest.raises(ArtefactError, match=r"weights\.bin") as caught:
        ONNXModel(path, 1)
    assert "secret" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_classes_that_a_trial_run_did_not_tell_are_asked_for(
    refused: Callable[[Any], str],
) -> None:
    made = classifier()
    # Blanks are refused: the first step divides an index out of range.
    made.graph.node.insert(0, node("Gather", ["table", "i"], ["x"]))
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("i", INT64, ["n"]))
    made.graph.node.insert(0, node("Sub", ["i0", "far"], ["i"]))
    made.graph.input[0].name = "i0"
    made.graph.initializer.extend(
        [constant("table", FLOAT, [1, 2], [0.0, 1.0]), constant("far", INT64, [], [5])]
    )
    assert "zipmap=False" in refused(made)


# What comes out of a run.


def test_an_index_out_of_range_is_the_inputs_fault(opened: Callable[[Any], ONNXModel]) -> None:
    made = model(
        [node("Gather", ["table", "x"], ["y"])],
        [("x", INT64, ["n"])],
        [("y", FLOAT, ["n"])],
        [constant("table", FLOAT, [2], [1.0, 2.0])],
    )
    runtime = opened(made)
    with pytest.raises(ModelRefused, match="idx=9") as caught:
        runtime.run({"x": np.array([9])}, None)
    assert "/" not in caught.value.message


def test_numbers_of_rows_that_differ_are_the_inputs_fault(
    opened: Callable[[Any], ONNXModel],
) -> None:
    ports = [("a", FLOAT, ["n", 2]), ("b", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])]
    runtime = opened(model([node("Add", ["a", "b"], ["y"])], *ports))
    with pytest.raises(ModelRefused, match="different numbers of rows: 'a' has 2, 'b' has 3"):
        runtime.run({"a": np.ones((2, 2), np.float32), "b": np.ones((3, 2), np.float32)}, None)


def test_a_width_that_the_model_cannot_multiply_is_the_inputs_fault(
    opened: Callable[[Any], ONNXModel],
) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [("x", FLOAT, ["n", "width"])],
        [("y", FLOAT, ["n", 1])],
        [constant("w", FLOAT, [4, 1], [1.0] * 4)],
    )
    with pytest.raises(ModelRefused, match="MatMul"):
        opened(made).run({"x": np.ones((1, 5), np.float32)}, None)


def test_what_is_not_the_inputs_fault_is_a_failure_without_details(
    opened: Callable[[Any], ONNXModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = opened(double())

    class Broken:
        def run(self, *_: object) -> None:
            raise RuntimeError("/secret/place")

    monkeypatch.setattr(runtime, "_run", Broken().run)
    with pytest.raises(ModelFailed) as caught:
        runtime.run({"x": floats([1, 2])}, None)
    assert caught.value.message == "the model failed on this input"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_nan_and_infinity_are_null_in_json(opened: Callable[[Any], ONNXModel]) -> None:
    ports = [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])]
    runtime = opened(model([node("Log", ["x"], ["y"])], *ports))
    answer = runtime.run({"x": np.array([-1, 0, 1], np.float32)}, None)
    text = encode_response("m", "1", answer, msgspec.UNSET)
    assert json.loads(text, parse_constant=pytest.fail)["outputs"][0]["data"] == [None, None, 0.0]


def test_a_double_zipmap_keeps_its_probabilities(opened: Callable[[Any], ONNXModel]) -> None:
    answer = opened(classifier()).run({"x": floats([1, 3])}, None)["probabilities"]
    expected = np.exp([1.0, 3.0]) / np.exp([1.0, 3.0]).sum()
    np.testing.assert_allclose(answer, [expected], rtol=1e-6)


def test_runs_from_many_threads_do_not_mix(opened: Callable[[Any], ONNXModel]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    runtime = opened(double())

    def ask(number: int) -> bool:
        answer = runtime.run({"x": floats([number, -number])}, None)["y"]
        return bool((answer == [[2 * number, -2 * number]]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))


# A pipeline that somebody else made.


@pytest.fixture(scope="module")
def titanic() -> ONNXModel:
    return ONNXModel(TITANIC / "pipeline_titanic.onnx", 1)


def passengers(runtime: ONNXModel, name: str) -> Tensors:
    told = json.loads((TITANIC / name).read_text("utf-8"))
    return {
        spec.name: np.array(told[spec.name], dtype=spec.datatype.dtype).reshape(-1, 1)
        for spec in runtime.signature.inputs
    }


@needs_titanic
def test_the_titanic_pipeline_tells_its_inputs_and_classes(titanic: ONNXModel) -> None:
    inputs = {spec.name: (spec.datatype, spec.shape) for spec in titanic.signature.inputs}
    text, number = (Datatype.BYTES, (-1, 1)), (Datatype.FP32, (-1, 1))
    assert inputs == {
        "pclass": text, "sex": text, "age": number, "fare": number, "embarked": text
    }  # fmt: skip
    assert shapes(titanic.signature)["output_label"] == (Datatype.INT64, (-1,))
    assert shapes(titanic.signature)["output_probability"] == (Datatype.FP32, (-1, 2))
    assert titanic.signature.answer.classes == (0, 1)


@needs_titanic
@pytest.mark.parametrize(("name", "labels"), [("single", [0]), ("batch", [0, 1])])
def test_the_titanic_pipeline_answers_as_its_maps_do(
    titanic: ONNXModel, name: str, labels: list[int]
) -> None:
    inputs = passengers(titanic, f"{name}.json")
    answer = titanic.run(inputs, None)
    session = onnxruntime.InferenceSession(
        TITANIC / "pipeline_titanic.onnx", providers=["CPUExecutionProvider"]
    )
    label, maps = session.run(None, inputs)
    assert answer["output_label"].tolist() == label.tolist() == labels
    assert answer["output_probability"].tolist() == [[row[0], row[1]] for row in maps]
    members = json.loads(encode_response("titanic", "1", answer, msgspec.UNSET))["outputs"]
    assert [m["shape"] for m in members] == [[len(labels)], [len(labels), 2]]
