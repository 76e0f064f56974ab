"""Small copies of uploaded pictures, to be shown beside the answer."""

from __future__ import annotations

import base64
import io
from typing import Final

from PIL import Image, ImageOps

SIDE: Final = 480
"""Pixels of the longer side."""

TINY: Final = 64
"""Pixels; a picture whose longer side is shorter is enlarged pixel by pixel."""

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")


def thumbnail_url(data: bytes) -> tuple[str, bool]:
    """Return a ``data:`` URL of a small copy, and whether the picture is tiny.

    Args:
        data: a picture that has been decoded before, so that its size is known to be bearable.

    Returns:
        An empty URL where no copy can be made: the answer is good without one.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            opened.draft("RGB", (SIDE, SIDE))
            copy = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "", False
    copy.thumbnail((SIDE, SIDE))
    is_tiny = max(copy.size) < TINY
    paper = Image.new("RGBA", copy.size, "white")
    return _encoded(Image.alpha_composite(paper, copy).convert("RGB"), is_tiny=is_tiny), is_tiny


def _encoded(picture: Image.Image, *, is_tiny: bool) -> str:
    kind = "png" if is_tiny else "jpeg"
    file = io.BytesIO()
    picture.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
