"""Makes the tables of docs/compiling.md.

``PYTHONPATH=tests python tests/importing/compile_table.py`` writes them.

Each model is fitted, compiled and proven as an import does it. To add models of another library,
give :data:`MODELS` another section.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import joblib
import numpy as np
import onnx
import pandas as pd
from compile_cases import SECTIONS, Case
from threadpoolctl import threadpool_limits
from tiny_boosters import saved, train_lightgbm, train_xgboost

from portico.serving.allowance import Allowance
from portico.serving.importing.compilers.boosters import (
    compile_booster,
    ensemble_of,
    rows_of_booster,
    thresholds_of_booster,
)
from portico.serving.importing.compilers.sklearn import compile_sklearn
from portico.serving.importing.errors import CannotCompile
from portico.serving.importing.parity import prove
from portico.serving.importing.thresholds import split_thresholds
from portico.serving.runtimes.onnx import ONNXModel
from portico.serving.runtimes.registry import open_runtime
from portico.serving.runtimes.sklearn import SklearnModel

if TYPE_CHECKING:
    from portico.serving.manifest import ParityReport
    from portico.serving.signature import Signature
    from portico.serving.tensors import Tensors, TensorSpec

DOCS = Path(__file__).parents[2] / "docs" / "compiling.md"
TABLE = re.compile(
    r"(?<=<!-- made by tests/importing/compile_table.py -->\n).*(?=<!-- end -->)", re.DOTALL
)
HEAD = (
    "| model | compiled | labels that differ | largest difference | faster, 1 row | 128 rows |\n"
    "|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        facts: what does not depend on the machine: name, whether it compiles, parity.
        speeds: how many times faster, for 1 and for 128 rows.
    """

    facts: str
    speeds: str

    def __str__(self) -> str:
        return f"| {self.facts} | {self.speeds} |\n"


Section: TypeAlias = Callable[[], Iterator[tuple[str, Callable[[Path], "ParityReport"]]]]
"""Yields names of models and what compiles and proves each in a folder."""


def _sklearn(cases: Callable[[], Iterator[Case]]) -> Section:
    def section() -> Iterator[tuple[str, Callable[[Path], ParityReport]]]:
        for case in cases():
            yield case.name, lambda folder, case=case: proven(case.fit(), case.rows, folder)

    return section


def _boosters(file: str, train: Callable[..., Any], choices: Choices) -> Section:
    def section() -> Iterator[tuple[str, Callable[[Path], ParityReport]]]:
        for objective, options in choices:
            name = ", ".join([f"`{objective}`", *(f"{k} {v}" for k, v in options.items())])
            yield (
                name.replace("categories True", "with categories"),
                lambda folder, objective=objective, options=options: proven_file(
                    saved(folder / file, train(objective, **options))
                ),
            )

    return section


Choices: TypeAlias = list[tuple[str, dict[str, Any]]]
"""Objectives, each with options of the training."""

_XGBOOST = (
    "reg:squarederror",
    "reg:logistic",
    "reg:gamma",
    "reg:tweedie",
    "reg:quantileerror",
    "count:poisson",
    "survival:cox",
    "rank:ndcg",
    "binary:logistic",
    "binary:logitraw",
    "binary:hinge",
    "multi:softprob",
)
_LIGHTGBM = (
    "regression",
    "quantile",
    "poisson",
    "gamma",
    "tweedie",
    "cross_entropy",
    "cross_entropy_lambda",
    "lambdarank",
    "binary",
    "multiclass",
    "multiclassova",
)

MODELS: dict[str, Section] = {
    **{title: _sklearn(cases) for title, cases in SECTIONS.items()},
    "XGBoost objectives": _boosters(
        "model.ubj",
        train_xgboost,
        [
            *((objective, {}) for objective in _XGBOOST),
            ("binary:logistic", {"categories": True}),
            ("reg:squarederror", {"booster": "dart"}),
            ("reg:squarederror", {"booster": "gblinear"}),
        ],
    ),
    "LightGBM objectives": _boosters(
        "model.txt",
        train_lightgbm,
        [
            *((objective, {}) for objective in _LIGHTGBM),
            ("binary", {"categories": True}),
            ("regression", {"boosting": "dart"}),
            ("regression", {"linear_tree": True}),
        ],
    ),
}


def proven(estimator: Any, rows: Any, folder: Path) -> ParityReport:
    """Compile a fitted estimator of scikit-learn and prove it, with its training rows."""
    native = opened(estimator)
    compiled = compiled_model(estimator, native.signature, folder)
    return prove(
        native,
        compiled,
        native.signature,
        examples=tensors_of(native.signature, rows),
        thresholds=split_thresholds(estimator, native.signature),
    )


def proven_file(path: Path) -> ParityReport:
    """Compile and prove a booster from its file."""
    native, ensemble = open_runtime(path, 1, Allowance.of(path.parent)), ensemble_of(path)
    target = path.with_suffix(".onnx")
    onnx.save(compile_booster(ensemble, native.signature), target)
    return prove(
        native,
        ONNXModel(target, 1),
        native.signature,
        examples=rows_of_booster(ensemble, 128),
        thresholds=thresholds_of_booster(ensemble, native.signature),
    )


def opened(estimator: Any) -> SklearnModel:
    """Return the runtime that serves the estimator as it is."""
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return SklearnModel(file.getvalue(), "model.joblib")


def compiled_model(estimator: Any, signature: Signature, folder: Path) -> ONNXModel:
    """Return the runtime that serves the compiled estimator."""
    path = folder / "model.onnx"
    onnx.save(compile_sklearn(estimator, signature), path)
    return ONNXModel(path, 1)


def tensors_of(signature: Signature, rows: Any) -> Tensors:
    """Return a matrix, a frame or texts as the tensors of a signature."""
    first = signature.inputs[0]
    if isinstance(rows, pd.DataFrame):
        if [first.name] == ["input"]:
            return {"input": rows[[f.name for f in signature.features]].to_numpy(dtype=float)}
        return {spec.name: _column(rows[spec.name], spec) for spec in signature.inputs}
    return {first.name: np.asarray(rows, dtype=first.datatype.dtype)}


def _column(column: Any, spec: TensorSpec) -> Any:
    if spec.datatype.dtype == object:
        column = column.astype(object).where(column.notna(), "")
    return column.to_numpy(dtype=spec.datatype.dtype).reshape(-1, 1)


def line(name: str, make: Callable[[Path], ParityReport], folder: Path) -> Line:
    """Compile and prove one model."""
    try:
        # Libraries that use all cores for a small batch would be measured by who else does.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = make(folder)
    except CannotCompile as error:
        return Line(f"{name} | no: {error} | - | -", "- | -")
    told = "yes" if report.compiled else f"no: {report.reason}"
    labels = sum(check.labels_differ for check in report.checks)
    largest = _rounded_up(
        max(min(check.largest, check.largest_relative) for check in report.checks)
    )
    speeds = " | ".join(_times(speed.native / speed.compiled) for speed in report.speeds)
    return Line(f"{name} | {told} | {labels} | {largest}", speeds)


def _rounded_up(largest: float) -> str:
    """Tell a difference in steps that do not depend on the machine."""
    if largest == 0:
        return "0"
    return next(f"< {bound:g}" for bound in (1e-12, 1e-6, 1e-5, 1e-3, np.inf) if largest < bound)


def _times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f}x"


def main() -> None:
    """Write the tables into docs/compiling.md."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for title, section in MODELS.items():
            lines = [line(name, make, Path(folder)) for name, make in section()]
            parts.append(f"### {title}\n\n{HEAD}{''.join(map(str, lines))}\n")
            sys.stdout.write(parts[-1])
    DOCS.write_text(TABLE.sub(lambda _: "\n" + "".join(parts), DOCS.read_text()))


if __name__ == "__main__":
    main()
