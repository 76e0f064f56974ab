"""Where to go after the log-in: only to a page of this gateway."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

# Visible ASCII without the backslash, which browsers read as a slash (WHATWG URL, 4.4).
_is_plain = re.compile(r"[!-\[\]-~]*").fullmatch


def is_own_path(target: str, root: str) -> bool:
    """Tell whether a link leads to a path under the outer root, on whatever browser.

    Args:
        target: as it came with the request, percent-encoded.
        root: the outer root, such as ``/ml``; empty for none.
    """
    if not _is_plain(target) or not target.startswith(f"{root}/") or target.startswith("//"):
        return False
    try:
        path = urlsplit(target).path
    except ValueError:
        return False
    # Browsers resolve these, percent-encoded or not, and would leave the root.
    return not {".", ".."} & set(unquote(path).split("/"))
