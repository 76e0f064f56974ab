"""Style sheets, scripts and pictures: our own, Bootstrap's and Swagger UI's.

The files of others come from the packages that are installed with Portico, so that no page needs
another host. All lie under ``/static/`` of the gateway's home::

    css/… js/… portico.svg    our own
    bootstrap/…               Bootstrap 5, from the package flask_bootstrap
    swagger/…                 Swagger UI, from the package flask_swagger_ui
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from flask import Response, abort, request

_YEAR: Final = 31_536_000
_SMALL: Final = 1024
"""Bytes; a smaller answer fits one packet anyway."""

_TEXT: Final = ("text/", "application/json", "image/svg+xml")


class StaticFile(NamedTuple):
    """A file as it is sent."""

    data: bytes
    zipped: bytes | None
    mimetype: str
    fingerprint: str


def answer(name: str) -> Response:
    """Answer with a static file, its name as in the module's docstring.

    Raises:
        NotFound: there is none of that name.
    """
    found = _find(name)
    if found is None:
        abort(404)
    file = _read(*found)
    zipped = file.zipped if request.accept_encodings.quality("gzip") > 0 else None
    response = Response(zipped or file.data, mimetype=file.mimetype)
    if zipped:
        response.content_encoding = "gzip"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if file.zipped:
        response.vary.add("Accept-Encoding")
    response.set_etag(f"{file.fingerprint}{'-gzip' if zipped else ''}")
    _allow_caching(response, is_named=request.args.get("v") == file.fingerprint)
    response.make_conditional(request)
    return response


def fingerprint(name: str) -> str:
    """Return a short hash of a static file's content.

    Raises:
        FileNotFoundError: a template asks for a file that is not there.
    """
    found = _find(name)
    if found is None:
        raise FileNotFoundError(f"there is no static file '{name}'")
    return _read(*found).fingerprint


def _allow_caching(response: Response, *, is_named: bool) -> None:
    """Let a link that names the content be kept; the bare one is asked for again each time."""
    control = response.cache_control
    control.public = True
    if is_named:
        control.max_age = _YEAR
        control.immutable = True
    else:
        control.no_cache = True


@lru_cache(maxsize=1)
def _folders() -> dict[str, Path]:
    return {
        "bootstrap": _package("flask_bootstrap") / "static" / "bootstrap5",
        "swagger": _package("flask_swagger_ui") / "dist",
        "": Path(__file__).with_name("static"),
    }


def _package(name: str) -> Path:
    """Return where a package lies, without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package '{name}' is not installed")
    return Path(spec.origin).parent


def _find(name: str) -> tuple[Path, int] | None:
    """Return the file and its time of change, or None where no such file lies in a folder.

    The file must lie in the folder after every ``..`` and link is followed.
    """
    first, _, rest = name.partition("/")
    folders = _folders()
    folder, inside = (folders[first], rest) if first and first in folders else (folders[""], name)
    try:
        path = (folder / inside).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        return path, path.stat().st_mtime_ns
    except (OSError, ValueError):  # A name with NUL, or one too long for the file system.
        return None


@lru_cache(maxsize=64)
def _read(path: Path, _changed: int) -> StaticFile:
    data = path.read_bytes()
    mimetype = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    is_text = mimetype.startswith(_TEXT) or path.suffix == ".js"
    return StaticFile(
        data=data,
        zipped=gzip.compress(data, mtime=0) if is_text and len(data) > _SMALL else None,
        mimetype=mimetype,
        fingerprint=hashlib.sha256(data).hexdigest()[:16],
    )
