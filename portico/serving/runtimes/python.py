"""Python functions: a file ``model.py`` with a function ``predict``, run as it is.

What the function takes and gives is read from its annotations. Annotated with single values it is
called row by row; annotated with arrays it is called once for all rows, a column an argument. A
model over larger tensors declares them in ``inputs`` and ``outputs`` beside the function.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from portico.serving.errors import ArtefactError, ModelFailed, ModelRefused
from portico.serving.signature import (
    AnswerKind,
    AnswerSpec,
    Choice,
    Feature,
    Scalar,
    Signature,
    answer_of,
    features_of,
)
from portico.serving.tensors import VARIABLE, Array, Datatype, Tensors, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

LABEL: Final = "label"
PREDICTION: Final = "prediction"

_SCALARS: Final[dict[Any, Datatype]] = {
    float: Datatype.FP64,
    int: Datatype.INT64,
    bool: Datatype.BOOL,
    str: Datatype.BYTES,
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """What one annotation tells."""

    datatype: Datatype
    is_array: bool = False
    optional: bool = False
    choices: tuple[Scalar, ...] = ()


class PythonModel:
    """One function.

    Args:
        data: content of a file that was allowed to execute code.
        path: where it lies; the code may read what lies beside it, by its ``__file__``.

    Raises:
        ArtefactError: the code fails, or has no function that can be served.
    """

    platform = "python_function"
    concurrency: int | None = 1

    def __init__(self, data: bytes, path: Path) -> None:
        self._module = _executed(data, path)
        predict = getattr(self._module, "predict", None)
        if not callable(predict):
            raise ArtefactError(f"'{path.name}' has no function 'predict'")
        self._predict: Callable[..., Any] = predict
        try:
            self.signature, self._is_rowwise = _signature(self._module, predict)
        except ArtefactError as error:
            raise ArtefactError(f"'{path.name}': {error.message}") from error
        self._blanks = {feature.tensor: feature.optional for feature in self.signature.features}

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Call the function; see :class:`portico.serving.ports.Runtime`."""
        try:
            given = self._rowwise(inputs) if self._is_rowwise else self._at_once(inputs)
        except ValueError as error:
            # The way for a function to say that it does not take these values.
            reason = (str(error).splitlines() or [""])[0][:200]
            raise ModelRefused(f"the model refused the input: {reason}") from error
        except ModelFailed:
            raise
        except (Exception, SystemExit) as error:
            raise ModelFailed("the model failed on this input") from error
        return {name: given[name] for name in outputs} if outputs else given

    def close(self) -> None:
        """Forget the module."""
        sys.modules.pop(self._module.__name__, None)

    def _rowwise(self, inputs: Tensors) -> Tensors:
        names = list(inputs)
        columns = [self._cells(name, array) for name, array in inputs.items()]
        answers = [
            self._predict(**dict(zip(names, row, strict=True)))
            for row in zip(*columns, strict=True)
        ]
        specs = self.signature.outputs
        if len(specs) == 1 and not any(isinstance(answer, dict) for answer in answers):
            return {specs[0].name: _column(specs[0], answers)}
        return {
            spec.name: _column(spec, [_member(a, spec.name) for a in answers]) for spec in specs
        }

    def _cells(self, name: str, array: Array) -> list[Any]:
        cells: list[Any] = array.reshape(-1).tolist()
        if not self._blanks[name]:
            return cells
        return [None if cell == "" or cell != cell else cell for cell in cells]  # noqa: PLR0124 NaN

    def _at_once(self, inputs: Tensors) -> Tensors:
        specs = self.signature.outputs
        arrays = inputs
        if not hasattr(self._module, "inputs"):
            arrays = {name: array.reshape(-1) for name, array in inputs.items()}
        answer = self._predict(**arrays)
        if not isinstance(answer, dict):
            answer = {specs[0].name: answer}
        rows = len(next(iter(inputs.values()))) if self.signature.is_batched else None
        return {spec.name: _tensor(spec, _member(answer, spec.name), rows) for spec in specs}


def _executed(data: bytes, path: Path) -> types.ModuleType:
    module = types.ModuleType(f"portico_model_{hashlib.sha256(data).hexdigest()[:16]}")
    module.__file__ = str(path)
    # Data classes and pickles look their module up by its name.
    sys.modules[module.__name__] = module
    try:
        exec(compile(data, path, "exec"), module.__dict__)  # noqa: S102 allowed by the operator
    except SyntaxError as error:
        raise ArtefactError(f"'{path.name}', line {error.lineno}: {error.msg}") from error
    except ModuleNotFoundError as error:
        raise ArtefactError(
            f"'{path.name}' imports {error.name}, which is not installed here"
        ) from error
    except (Exception, SystemExit) as error:
        told = (str(error).splitlines() or [""])[0][:200]
        raise ArtefactError(
            f"'{path.name}' failed while it was loaded: {type(error).__name__}: {told}"
        ) from error
    return module


def _signature(module: Any, predict: Any) -> tuple[Signature, bool]:
    """Return the signature, and whether the function is called row by row."""
    parameters = inspect.signature(predict).parameters
    if not parameters or any(
        p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters.values()
    ):
        raise ArtefactError("each input of predict must be a parameter with a name of its own")
    if hasattr(module, "inputs") or hasattr(module, "outputs"):
        return _declared(module, parameters), False
    try:
        hints = typing.get_type_hints(predict)
    except Exception as error:
        raise ArtefactError(f"the annotations of predict cannot be read: {error}") from error
    told = {name: _told(name, hints.get(name)) for name in parameters}
    outputs, answer, gives_arrays = _outputs(hints.get("return"))
    takes_arrays = {each.is_array for each in told.values()}
    if takes_arrays != {gives_arrays}:
        raise ArtefactError("predict must take and give single values throughout, or arrays")
    inputs = tuple(TensorSpec(n, each.datatype, (VARIABLE, 1)) for n, each in told.items())
    features = tuple(
        _feature(feature, told[feature.name], parameters[feature.name].default)
        for feature in features_of(inputs)
    )
    return Signature(inputs, outputs, features, answer), not gives_arrays


def _declared(module: Any, parameters: Mapping[str, Any]) -> Signature:
    inputs, outputs = (_specs(module, side) for side in ("inputs", "outputs"))
    if {spec.name for spec in inputs} != set(parameters):
        raise ArtefactError(
            f"predict takes {', '.join(parameters)}; inputs declares "
            f"{', '.join(spec.name for spec in inputs)}"
        )
    return Signature(inputs, outputs, features_of(inputs), answer_of(outputs))


def _specs(module: Any, side: str) -> tuple[TensorSpec, ...]:
    declared = getattr(module, side, None)
    wrong = ArtefactError(
        f'{side} must be like {side} = {{"name": ("FP32", [-1, 4])}}: datatype and shape of each'
    )
    if not isinstance(declared, dict) or not declared:
        raise wrong
    specs = []
    for name, value in declared.items():
        try:
            datatype, shape = value
            spec = TensorSpec(str(name), Datatype(datatype), tuple(int(size) for size in shape))
        except (TypeError, ValueError):
            raise wrong from None
        if min(spec.shape, default=1) < VARIABLE or 0 in spec.shape:
            raise wrong
        specs.append(spec)
    return tuple(specs)


def _told(name: str, hint: Any) -> _Told:
    """Read one annotation.

    Raises:
        ArtefactError: it is missing, or of a type that no tensor holds.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(hint) if each is not type(None)]
        if len(inner) == 1 and len(typing.get_args(hint)) == 2:
            told = _told(name, inner[0])
            if told.datatype not in (Datatype.FP64, Datatype.BYTES) or told.is_array:
                raise ArtefactError(f"'{name}' cannot be missing; float | None and str | None can")
            return dataclasses.replace(told, optional=True)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        kinds = {type(choice) for choice in choices}
        if len(kinds) == 1 and kinds <= {str, int, bool}:
            return _Told(_SCALARS[kinds.pop()], choices=choices)
    if hint is np.ndarray:
        return _Told(Datatype.FP64, is_array=True)
    if typing.get_origin(hint) is np.ndarray:
        element = typing.get_args(typing.get_args(hint)[1])
        try:
            return _Told(Datatype.of(np.dtype(element[0])), is_array=True)
        except (TypeError, ValueError, IndexError):
            pass
    if hint in _SCALARS:
        return _Told(_SCALARS[hint])
    shown = "no annotation" if hint is None else f"the annotation {hint}"
    raise ArtefactError(
        f"'{name}' has {shown}; float, int, bool, str, Literal[...] or NDArray[...] is expected"
    )


def _outputs(hint: Any) -> tuple[tuple[TensorSpec, ...], AnswerSpec, bool]:
    """Return the outputs, how they read, and whether they are arrays."""
    if typing.is_typeddict(hint):
        told = {name: _told(name, each) for name, each in typing.get_type_hints(hint).items()}
        outputs = tuple(TensorSpec(n, each.datatype, (VARIABLE,)) for n, each in told.items())
        classes = next((each.choices for each in told.values() if each.choices), ())
        return outputs, answer_of(outputs, classes), all(t.is_array for t in told.values())
    told_one = _told("what predict returns", hint)
    is_label = told_one.choices or told_one.datatype in (Datatype.BYTES, Datatype.BOOL)
    output = TensorSpec(LABEL if is_label else PREDICTION, told_one.datatype, (VARIABLE,))
    if is_label:
        answer = answer_of((output,), told_one.choices)
    else:
        answer = AnswerSpec(kind=AnswerKind.REGRESSION, value=PREDICTION)
    return (output,), answer, told_one.is_array


def _feature(feature: Feature, told: _Told, default: Any) -> Feature:
    known = default if isinstance(default, str | float | int) else None
    return dataclasses.replace(
        feature,
        choices=tuple(Choice(value, str(value)) for value in told.choices),
        optional=told.optional,
        default=known,
    )


def _member(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise ModelFailed(f"the model gave no '{name}', which it declares")
    return answer[name]


def _column(spec: TensorSpec, answers: list[Any]) -> Array:
    """Return the answers to single rows as one array of the type that is annotated."""
    wrong = ModelFailed(f"the model gave another type for '{spec.name}' than it declares")
    if spec.datatype is Datatype.BYTES:
        if not all(isinstance(answer, str) for answer in answers):
            raise wrong
        return np.array(answers, dtype=object)
    if spec.datatype.is_float:
        answers = [math.nan if answer is None else answer for answer in answers]
    try:
        array = np.array(answers)
        if answers and (array.dtype.kind not in "biuf" or array.ndim != 1):
            raise wrong
        return array.astype(spec.datatype.dtype, casting="unsafe" if not answers else "same_kind")
    except (TypeError, ValueError):
        raise wrong from None


def _tensor(spec: TensorSpec, value: Any, rows: int | None) -> Array:
    """Return an array that was given, if it is what the model declares."""
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = array.astype(object)
    if not spec.admits(array.shape) or (rows is not None and array.shape[:1] != (rows,)):
        raise ModelFailed(
            f"the model gave '{spec.name}' in shape {list(array.shape)}; "
            f"it declares {list(spec.shape)}"
        )
    if array.dtype != spec.datatype.dtype:
        if array.dtype.kind not in "biuf" or spec.datatype is Datatype.BYTES:
            raise ModelFailed(f"the model gave another type for '{spec.name}' than it declares")
        array = array.astype(spec.datatype.dtype)
    return array
