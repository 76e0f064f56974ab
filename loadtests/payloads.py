"""Requests made from what the models say about themselves; nothing here knows a model by name."""

from __future__ import annotations

import io
import random
from html.parser import HTMLParser
from math import prod
from typing import Any

from PIL import Image

JSON = dict[str, Any]


def infer_request(metadata: JSON, rows: int = 1) -> JSON:
    """Return an infer request for a model's metadata; every variable axis gets ``rows``.

    Args:
        metadata: as ``/v2/models/NAME`` gives it.
        rows: examples in the batch.
    """
    return {"id": f"load-{random.getrandbits(32):x}", "inputs": [
        _tensor(spec, rows) for spec in metadata["inputs"]
    ]}  # fmt: skip


def _tensor(spec: JSON, rows: int) -> JSON:
    shape = [rows if size == -1 else size for size in spec["shape"]]
    data = [_element(spec["datatype"]) for _ in range(prod(shape))]
    return {"name": spec["name"], "shape": shape, "datatype": spec["datatype"], "data": data}


def _element(datatype: str) -> Any:
    if datatype == "BYTES":
        return "word"
    if datatype == "BOOL":
        return random.random() < 0.5
    return round(random.uniform(0, 9), 2) if datatype.startswith("FP") else random.randrange(9)


def problem_with(answer: JSON, metadata: JSON, request_id: str) -> str:
    """Say what is wrong with an infer response, nothing when it fits the model's metadata."""
    if answer.get("id") != request_id:
        return f"id is {answer.get('id')!r}"
    if answer.get("model_name") != metadata["name"]:
        return f"model_name is {answer.get('model_name')!r}"
    expected = {spec["name"]: spec for spec in metadata["outputs"]}
    if {output["name"] for output in answer["outputs"]} != set(expected):
        return f"outputs are {[output['name'] for output in answer['outputs']]}"
    for output in answer["outputs"]:
        if prod(output["shape"]) != len(output["data"]):
            return f"{output['name']}: {len(output['data'])} values in shape {output['shape']}"
        if output["datatype"] != expected[output["name"]]["datatype"]:
            return f"{output['name']} is {output['datatype']}"
    return ""


def picture(side: int = 64) -> bytes:
    """Return a PNG of random noise."""
    file = io.BytesIO()
    Image.frombytes("L", (side, side), random.randbytes(side * side)).save(file, "PNG")
    return file.getvalue()


class Form(HTMLParser):
    """The fields of the first form of a page that is sent by POST, as a browser would send them.

    Attributes:
        values: from a field's name to its value.
        files: names of the fields that take a file.
        links: targets of all links of the page.

    Args:
        page: HTML.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self.files: list[str] = []
        self.links: list[str] = []
        self._inside = False
        self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and fields."""
        facts = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in facts:
            self.links.append(facts["href"])
        elif tag == "form":
            self._inside = facts.get("method", "").lower() == "post" and "data-live" in facts
        elif self._inside and tag == "select":
            self._select = facts.get("name", "")
        elif self._select and tag == "option":
            if "selected" in facts or self._select not in self.values:
                self.values[self._select] = facts.get("value", "")
        elif self._inside and tag == "textarea":
            self.values[facts.get("name", "")] = "word"
        elif self._inside and tag == "input" and facts.get("name"):
            self._note(facts)

    def handle_endtag(self, tag: str) -> None:
        """Leave forms and lists of choices."""
        if tag == "form":
            self._inside = False
        elif tag == "select":
            self._select = ""

    def _note(self, facts: dict[str, str]) -> None:
        kind = facts.get("type", "text")
        if kind == "file":
            self.files.append(facts["name"])
        elif kind not in ("checkbox", "radio") or "checked" in facts:
            self.values[facts["name"]] = facts.get("value", "on")
