"""One value of a feature: checked the same way from JSON, a form field or a CSV cell."""

from __future__ import annotations

import math
from typing import Any, Final

from portico.serving.codecs.json_tensors import array_from_json, shown_json
from portico.serving.errors import InvalidInput
from portico.serving.signature import Feature, Kind
from portico.serving.tensors import VARIABLE, holds

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


def check_value(feature: Feature, value: Any, where: str) -> Any:
    """Return a JSON value as the feature's tensor holds it.

    Raises:
        InvalidInput: missing, of another type, out of range or not among the choices.
    """
    if value is None:
        return missing_value(feature, where)
    match feature.kind:
        case Kind.NUMBER:
            return _in_range(feature, _number(value, where), where)
        case Kind.INTEGER:
            return _in_range(feature, _integer(value, where), where)
        case Kind.BOOLEAN:
            if not isinstance(value, bool):
                raise InvalidInput.at(where, f"is {shown(value)}; true or false is expected")
            return value
        case Kind.TENSOR:
            return _tensor(feature, value, where)
        case _:
            if not isinstance(value, str):
                raise InvalidInput.at(where, f"is {shown(value)}; text is expected")
            return _among_choices(feature, value, where)


def read_value(feature: Feature, text: str, where: str) -> Any:
    """Return the value that a person wrote into a form field or a CSV cell.

    Raises:
        InvalidInput: as :func:`check_value`; a number that cannot be read as one.
    """
    stripped = text.strip()
    if not stripped:
        return missing_value(feature, where)
    match feature.kind:
        case Kind.NUMBER | Kind.INTEGER:
            return check_value(feature, _read_number(stripped, where), where)
        case Kind.BOOLEAN:
            word = stripped.lower()
            if word in _TRUE or word in _FALSE:
                return word in _TRUE
            raise InvalidInput.at(where, f"is {shown(text)}; true or false is expected")
        case _:
            return check_value(feature, stripped, where)


def missing_value(feature: Feature, where: str) -> Any:
    """Return what stands for a missing value of an optional feature.

    Raises:
        InvalidInput: the feature is not optional.
    """
    if feature.optional and feature.kind is Kind.NUMBER:
        return math.nan
    if feature.optional and feature.kind is Kind.TEXT:
        return ""
    raise InvalidInput.at(where, f"is missing; {expected(feature)} is expected")


def expected(feature: Feature) -> str:
    """Say in words what the feature takes."""
    if feature.choices and feature.closed:
        return f"one of {', '.join(str(choice.value) for choice in feature.choices[:20])}"
    words = {
        Kind.NUMBER: "a number",
        Kind.INTEGER: "a whole number",
        Kind.BOOLEAN: "true or false",
        Kind.TEXT: "text",
        Kind.IMAGE: "a picture",
        Kind.TENSOR: f"an array of shape {list(feature.shape)}",
    }
    return f"{words[feature.kind]} {feature.range_text}".rstrip()


def shown(value: Any) -> str:
    """Show a refused value, cut short."""
    if isinstance(value, list | dict):
        return shown_json(value)
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _number(value: Any, where: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput.at(where, f"is {shown(value)}; a number is expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput.at(where, f"is {value}; a finite number is expected")
    return value


def _integer(value: Any, where: str) -> int:
    number = _number(value, where)
    if number != int(number):
        raise InvalidInput.at(where, f"is {shown(value)}; a whole number is expected")
    return int(number)


def _read_number(text: str, where: str) -> float | int:
    plain = text.replace("_", "x")  # Python alone takes 1_000 for a number.
    try:
        return int(plain)
    except ValueError:
        pass
    try:
        return float(plain)
    except ValueError:
        hint = "; write the decimals after a point" if text.replace(",", "").isdigit() else ""
        raise InvalidInput.at(where, f"is {shown(text)}; a number is expected{hint}") from None


def _in_range(feature: Feature, value: float, where: str) -> float:
    low, high = feature.minimum, feature.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        unit = f" {feature.unit}" if feature.unit else ""
        raise InvalidInput.at(where, f"is {shown(value)}; it must be {feature.range_text}{unit}")
    if not holds(feature.datatype, value):
        raise InvalidInput.at(where, f"is {shown(value)}; that does not fit {feature.datatype}")
    return float(_among_choices(feature, value, where)) if feature.kind is Kind.NUMBER else value


def _among_choices(feature: Feature, value: Any, where: str) -> Any:
    allowed = [choice.value for choice in feature.choices]
    if allowed and feature.closed and value not in allowed:
        raise InvalidInput.at(where, f"is {shown(value)}; it must be {expected(feature)}")
    return value


def _tensor(feature: Feature, value: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise InvalidInput.at(where, f"is {shown(value)}; {expected(feature)} is expected")
    shape = feature.shape
    if VARIABLE in shape:
        shape = _nesting(value)
        if len(shape) != len(feature.shape) or any(
            mine not in (VARIABLE, theirs)
            for mine, theirs in zip(feature.shape, shape, strict=True)
        ):
            raise InvalidInput.at(
                where, f"is nested as {list(shape)}; {expected(feature)} is expected"
            )
    return array_from_json(value, feature.datatype, shape, where)


def _nesting(value: Any) -> tuple[int, ...]:
    sizes: list[int] = []
    while isinstance(value, list):
        sizes.append(len(value))
        value = value[0] if value else None
    return tuple(sizes)
