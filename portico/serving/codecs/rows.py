"""Rows of named values, from JSON or CSV, to tensors."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from portico.serving.codecs.json_tensors import ANY_JSON, decode_json
from portico.serving.codecs.values import check_value, read_value
from portico.serving.errors import InvalidInput, Problem
from portico.serving.signature import Feature, Kind, Signature

if TYPE_CHECKING:
    from portico.serving.tensors import Array, Tensors, TensorSpec

Row: TypeAlias = Mapping[str, Any]

MAX_PROBLEMS: Final = 20
"""More problems than a person reads at once; the rest is counted out."""


def tensors_from_rows(signature: Signature, rows: Sequence[Row], where: str = "rows") -> Tensors:
    """Return the tensors of rows that JSON brought, one array an input, first axis the rows.

    Args:
        signature: of the model; its picture, if it takes one, is no part of rows, and the
            picture's tensor is left to the caller.
        rows: a mapping from feature name to value each.
        where: what the rows are called in errors.

    Raises:
        InvalidInput: unknown or missing names and wrong values, each with its place.
    """
    if not rows:
        raise InvalidInput.at(where, "is empty; at least one row is expected")
    places = [f"{where}[{index}]" for index in range(len(rows))]
    names = [f.name for f in _features(signature) if f.optional]
    # Where a feature is required, its absence is told below.
    if {} in rows and len(names) == len(signature.features):
        known = ", ".join(names[:MAX_PROBLEMS])
        raise InvalidInput.at(
            places[list(rows).index({})], f"is empty; give at least one of: {known}"
        )
    return _tensors(signature, rows, places, check_value, lambda place, name: f"{place}.{name}")


def tensors_from_csv(signature: Signature, text: str) -> Tensors:
    """Return the tensors of a CSV table with a header line (RFC 4180).

    Columns may stand in any order; columns that the model does not know are ignored, since a
    table exported for scoring usually carries keys and targets beside the features.

    Raises:
        InvalidInput: no header, a missing column, a ragged line, a value that does not fit; lines
            are counted from 1, the header included.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[Row] = []
    places: list[str] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(signature, header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InvalidInput.at(
                    f"line {reader.line_num}",
                    f"has {len(cells)} values; the header has {len(header)} columns",
                )
            rows.append(dict(zip(header, cells, strict=True)))
            places.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise InvalidInput.at(f"line {reader.line_num}", f"is not valid CSV: {error}") from None
    if not rows:
        raise InvalidInput.at("line 2", "is missing; at least one row must follow the header")
    features = _features(signature)
    known = [{f.name: row.get(f.name, "") for f in features} for row in rows]
    return _tensors(
        signature, known, places, read_value, lambda place, name: f"{place}, column '{name}'"
    )


def tensors_from_form(signature: Signature, fields: Mapping[str, str]) -> Tensors:
    """Return the tensors of one row that a form brought; places are the features' names.

    An input that takes a picture is left out: its bytes are no field.

    Raises:
        InvalidInput: values that do not fit, each under the name of its feature.
    """
    row = {f.name: fields.get(f.name, "") for f in _features(signature)}
    return _tensors(signature, [row], [""], _read_form_value, lambda _, name: name)


def csv_template(signature: Signature, rows: Sequence[Row] = ()) -> str:
    """Return a CSV table with the model's header and example rows, ready to be filled in."""
    names = [f.name for f in signature.features if f.kind not in (Kind.IMAGE, Kind.TENSOR)]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    for row in rows or [signature.example_row()]:
        writer.writerow([row.get(name, "") for name in names])
    return text.getvalue()


def _read_form_value(feature: Feature, text: str, where: str) -> Any:
    if feature.kind is Kind.BOOLEAN and not text:
        return False  # A browser sends nothing for a box that is not ticked.
    if feature.kind is Kind.TENSOR:
        return check_value(feature, _read_array(text, where), where)
    return read_value(feature, text, where)


def _read_array(text: str, where: str) -> Any:
    # Half a surrogate pair is no character; the decoder is to say so, not the encoder.
    return decode_json(text.encode("utf-8", "surrogatepass"), ANY_JSON, where)


def _features(signature: Signature) -> list[Feature]:
    """Return the features that a row holds: all but the picture."""
    return [feature for feature in signature.features if feature.kind is not Kind.IMAGE]


def _check_header(signature: Signature, header: list[str]) -> None:
    if not any(header):
        raise InvalidInput.at("line 1", "is empty; a header with the feature names is expected")
    repeated = {name for name, count in Counter(header).items() if count > 1 and name}
    if repeated:
        raise InvalidInput.at("line 1", f"repeats the column '{min(repeated)}'")
    present = set(header)
    wanted = [f.name for f in _features(signature) if not f.optional]
    missing = [name for name in wanted if name not in present]
    if missing:
        raise InvalidInput.of(
            [Problem("line 1", f"lacks the column '{name}'") for name in missing[:MAX_PROBLEMS]]
        )
    names = [f.name for f in _features(signature)]
    if present.isdisjoint(names):
        hint = "; columns are separated by commas" if ";" in header[0] else ""
        raise InvalidInput.at(
            "line 1", f"names none of the model's columns: {', '.join(names[:MAX_PROBLEMS])}{hint}"
        )


def _tensors(
    signature: Signature,
    rows: Sequence[Row],
    places: Sequence[str],
    parse: Callable[[Feature, Any, str], Any],
    place_of: Callable[[str, str], str],
) -> Tensors:
    """Fill one array an input, feature by feature, and collect what is wrong."""
    problems: list[Problem] = []
    for row, place in zip(rows, places, strict=True):
        problems += _unknown_names(signature, row, place)
    columns: dict[str, list[Any]] = {}
    for feature in _features(signature):
        values: list[Any] = []
        for row, place in zip(rows, places, strict=True):
            try:
                values.append(parse(feature, row.get(feature.name), place_of(place, feature.name)))
            except InvalidInput as error:
                problems += error.details
        columns[feature.name] = values
        if len(problems) >= MAX_PROBLEMS:
            break
    if problems:
        raise InvalidInput.of(problems[:MAX_PROBLEMS])
    return _stack(signature, columns, len(rows))


def _unknown_names(signature: Signature, row: Row, place: str) -> list[Problem]:
    problems: list[Problem] = []
    for name in row:
        feature = signature.feature_by_name.get(name)
        if feature is None:
            known = ", ".join(f.name for f in _features(signature))
            problems.append(Problem(place, f"has no feature '{name}'; known: {known}"))
        elif feature.kind is Kind.IMAGE:
            problems.append(Problem(place, f"'{name}' is a picture; it cannot stand in a row"))
    return problems


def _stack(signature: Signature, columns: Mapping[str, list[Any]], rows: int) -> Tensors:
    """Return the tensors that rows fill; a picture's tensor is not among them."""
    tensors: Tensors = {}
    for spec in signature.inputs:
        features = [f for f in _features(signature) if f.tensor == spec.name]
        if len(features) == 1 and features[0].kind is Kind.TENSOR:
            tensors[spec.name] = _stack_arrays(columns[features[0].name], features[0].name)
        elif features:
            tensors[spec.name] = _filled(spec, features, columns, rows)
    return tensors


def _filled(
    spec: TensorSpec, features: list[Feature], columns: Mapping[str, list[Any]], rows: int
) -> Array:
    array: Array = np.empty((rows, *spec.row_shape), dtype=spec.datatype.dtype)
    for feature in features:
        if feature.column is not None:
            array[:, feature.column] = columns[feature.name]
        else:
            array.reshape(rows, -1)[:, 0] = columns[feature.name]
    return array


def _stack_arrays(values: list[Array], name: str) -> Array:
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        raise InvalidInput.at(name, "has rows of different shapes; send them one by one")
    return np.stack(values)
