"""Write ``model.toml`` for a version, as a person would have written it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from portico.serving.card import ModelCard

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def card_as_toml(card: ModelCard) -> str:
    """Return a card as TOML; keys at their defaults are left out."""
    plain = _given(card)
    return "\n".join(_table(plain, ()))


def _given(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct that differ from their defaults."""
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if value != default:
            given[field.encode_name] = value
    return given


def _table(values: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """Return the lines of a table: its own keys first, then the tables within."""
    tables = {key: _as_table(value) for key, value in values.items()}
    lines = [f"[{'.'.join(map(_key, path))}]"] if path else []
    lines += [
        f"{_key(key)} = {_value(values[key])}" for key, inner in tables.items() if inner is None
    ]
    lines.append("")
    for key, inner in tables.items():
        if inner is not None:
            lines += _table(inner, (*path, key))
    return lines


def _as_table(value: Any) -> dict[str, Any] | None:
    if isinstance(value, msgspec.Struct):
        return _given(value)
    return value if isinstance(value, dict) else None


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, str):  # Enums of texts among them.
        return _text(str(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)  # TOML writes numbers as Python does, infinities and NaN included.


def _text(text: str) -> str:
    # JSON's escapes are TOML's as well, but for one control character that JSON lets pass.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
