"""The pages for people, on models trained here."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from prometheus_client import CollectorRegistry
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from werkzeug.test import Client

from apps.shell.site import MountInfo, Site
from apps.ui import batch, create_app
from apps.ui.fields import text_of
from portico.demos.recipe import write_joblib, write_onnx
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.errors import DeadlineExceeded, ModelFailed, QueueFull
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from werkzeug.test import TestResponse

EVIL = "<img src=x onerror=alert(1)>"
SITE = Site("Gate", (MountInfo("ui", "/ui", "Models"),))
REGISTRY = CollectorRegistry()

FLOWERS = f"""
title = "{EVIL}"
description = "{EVIL}"
feature_names = ["len", "{EVIL}"]

[features.len]
title = "Length"
description = "Of the petal."
unit = "cm"
minimum = 0
maximum = 10
step = 0.1
default = 4.5

[answer]
title = "Species {EVIL}"
labels = ["{EVIL}", "virginica"]
"""

HOUSES = """
title = "House price"

[features.town]
description = "Where it stands."

[features.rooms]
unit = "rooms"

[answer]
unit = "EUR"
"""

MARKS = """
title = "Bright or dark"

[image]
resize = [2, 2]
color = "L"

[features.image]
title = "Photo"

[answer]
labels = ["dark", "bright"]
"""


class _Client(Client):
    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{**kwargs, "buffered": True})


def _flowers(folder: Path) -> None:
    x = np.array([[1, 1], [2, 1], [8, 5], [9, 5]], dtype=np.float32)
    write_onnx(LogisticRegression().fit(x, [0, 0, 1, 1]), 2, folder / "1" / "model.onnx")
    (folder / "2").mkdir()
    (folder / "2" / "model.onnx").write_bytes(b"no model")
    (folder / "model.toml").write_text(FLOWERS)


def _houses(folder: Path) -> None:
    import pandas as pd

    table = pd.DataFrame({"rooms": [1.0, 2.0, 3.0], "town": ["Ulm", "Bonn", "Ulm"]})
    encoder = ColumnTransformer([("town", OneHotEncoder(), ["town"])], remainder="passthrough")
    model = make_pipeline(encoder, LinearRegression()).fit(table, [100.0, 250.0, 300.0])
    write_joblib(model, folder / "1" / "model.joblib")
    (folder / "model.toml").write_text(HOUSES)


def _marks(folder: Path) -> None:
    x = np.array([[0, 0, 0, 0], [0.1, 0, 0, 0.1], [1, 1, 1, 1], [0.9, 1, 1, 1]], dtype=np.float32)
    forest = RandomForestClassifier(5, random_state=0).fit(x, [0, 0, 1, 1])
    write_onnx(forest, 4, folder / "1" / "model.onnx")
    (folder / "model.toml").write_text(MARKS)


def _arrays(folder: Path) -> None:
    shape = ["n", 2, 2]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["grid"], ["turned"])],
        "arrays",
        [helper.make_tensor_value_info("grid", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("turned", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "1" / "model.onnx")


def _broken(folder: Path) -> None:
    (folder / "1" / "model.onnx").write_bytes(b"no model")


MAKERS = {
    "my flowers": _flowers,
    "houses": _houses,
    "marks": _marks,
    "arrays": _arrays,
    "broken": _broken,
}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("models")
    for name, make in MAKERS.items():
        (folder / name / "1").mkdir(parents=True)
        make(folder / name)
    allowance = Allowance(tmp_path_factory.mktemp("state") / "allowed.json")
    allowance.allow(folder / "houses" / "1" / "model.joblib")
    made = Catalogue(find_artefacts(folder), allowance, PredictionMetrics(REGISTRY))
    made.load(60)
    return made


@pytest.fixture
def client(catalogue: Catalogue) -> Client:
    return _Client(validator(create_app(SITE, catalogue)))


def _counted(model: str, outcome: str) -> float:
    labels = {"model": model, "version": "1", "outcome": outcome}
    return REGISTRY.get_sample_value("portico_predictions_total", labels) or 0.0


class _Forms(HTMLParser):
    """Collects start tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> dict[str, str | None]:
        return next(attrs for _, attrs in self.tags if attrs.get("name") == name)


def _picture(colour: str = "white", size: tuple[int, int] = (6, 6)) -> io.BytesIO:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "png")
    file.seek(0)
    return file


def _upload(client: Client, file: io.BytesIO, name: str, path: str = "/models/marks") -> Any:
    return client.post(path, data={"image": (file, name)})


def _table(client: Client, text: str | bytes, model: str = "houses", **fields: str) -> Any:
    data = text.encode() if isinstance(text, str) else text
    upload = (io.BytesIO(data), "table.csv")
    return client.post(f"/models/{model}/table", data={"file": upload, **fields})


# The gallery.


def test_the_gallery_shows_every_model_with_its_state(client: Client) -> None:
    text = client.get("/").text
    assert text.count("p-badge-ready") == 4
    assert text.count("p-badge-failed") == 1
    assert "cannot be opened as ONNX" in text
    assert "Gives a value in EUR" in text
    assert 'href="/ui/models/my%20flowers"' in text


def test_an_empty_gallery_leads_to_the_first_steps() -> None:
    empty = Catalogue([], Allowance.__new__(Allowance), PredictionMetrics(CollectorRegistry()))
    assert "No model is served yet" in Client(create_app(SITE, empty)).get("/").text


def test_the_folder_of_models_leads_to_the_gallery(client: Client) -> None:
    answer = client.get("/models", environ_overrides={"portico.root": "/ml"})
    assert answer.headers["Location"] == "/ml/ui/"


# The form.


def test_the_form_says_what_each_feature_may_be(client: Client) -> None:
    forms = _Forms(client.get("/models/my%20flowers").text)
    length = forms.named("len")
    assert length["type"] == "number"
    assert (length["min"], length["max"], length["step"]) == ("0", "10", "0.1")
    assert length["value"] == "4.5"
    assert length["aria-describedby"] == ("field-0-unit field-0-about field-0-hint field-0-problem")
    assert forms.named(EVIL)["value"] == ""


def test_every_description_that_a_field_names_exists(client: Client) -> None:
    for path in ("/models/my%20flowers", "/models/houses", "/models/marks", "/models/arrays"):
        forms = _Forms(client.get(path).text)
        ids = {attrs.get("id") for _, attrs in forms.tags}
        named = " ".join(attrs.get("aria-describedby") or "" for _, attrs in forms.tags)
        assert set(named.split()) <= ids


def test_closed_choices_are_a_list_to_choose_from(client: Client) -> None:
    text = client.get("/models/houses").text
    assert _Forms(text).named("town")
    assert "<select" in text
    assert re.findall(r'<option value="(\w*)"', text) == ["", "Bonn", "Ulm"]


def test_an_example_fills_every_field(client: Client) -> None:
    text = client.get("/models/houses?example=1").text
    assert _Forms(text).named("rooms")["value"]
    assert '<option value="Bonn" selected>' in text
    grid = client.get("/models/arrays?example=1").text
    assert "[[0.0, 0.0], [0.0, 0.0]]" in grid


def test_a_picture_is_sent_as_a_file(client: Client) -> None:
    text = client.get("/models/marks").text
    assert 'enctype="multipart/form-data"' in text
    assert _Forms(text).named("image")["type"] == "file"
    assert "Fill in an example" not in text


# Answers.


def test_a_class_comes_with_bars_and_the_values_stay(client: Client) -> None:
    answer = client.post("/models/my%20flowers", data={"len": "8.5", EVIL: "5"})
    assert answer.status_code == 200
    assert '<p class="p-answer">virginica</p>' in answer.text
    assert answer.text.count('class="p-bar"') == 2
    assert re.search(r'<rect width="9\d\.\d\d"', answer.text)
    assert _Forms(answer.text).named("len")["value"] == "8.5"


def test_a_value_comes_with_its_unit(client: Client) -> None:
    text = client.post("/models/houses", data={"rooms": "3", "town": "Ulm"}).text
    assert re.search(r'<p class="p-answer">300 <span class="p-unit">EUR</span></p>', text)
    assert '<option value="Ulm" selected>' in text


def test_arrays_come_as_json(client: Client) -> None:
    text = client.post("/models/arrays", data={"grid": "[[1, 2], [3, 4]]"}).text
    assert "[[-1.0, -2.0], [-3.0, -4.0]]" in text


def test_a_picture_comes_back_small_with_its_label(client: Client) -> None:
    answer = _upload(client, _picture(), "photo.png")
    assert answer.status_code == 200
    assert '<p class="p-answer">bright</p>' in answer.text
    assert 'src="data:image/png;base64,' in answer.text
    assert "p-tiny" in answer.text
    large = _upload(client, _picture("black", (900, 300)), "large.png")
    assert '<p class="p-answer">dark</p>' in large.text
    assert 'src="data:image/jpeg;base64,' in large.text


def test_a_script_gets_only_what_changed(client: Client) -> None:
    headers = {"Portico-Fragment": "1"}
    answer = client.post("/models/houses", data={"rooms": "3", "town": "Ulm"}, headers=headers)
    assert "<html" not in answer.text
    assert re.findall(r'data-slot="(\w+)"', answer.text) == ["summary", "answer"]
    assert "300" in answer.text
    assert "Portico-Fragment" in answer.headers["Vary"]


def test_an_answer_is_counted_and_told_to_the_log(catalogue: Catalogue) -> None:
    seen: dict[str, Any] = {}

    def spy(environ: Any, start_response: Any) -> Any:
        seen.update(environ=environ)
        return create_app(SITE, catalogue)(environ, start_response)

    before = _counted("houses", "ok")
    Client(spy).post("/models/houses", data={"rooms": "3", "town": "Ulm"})
    assert _counted("houses", "ok") == before + 1
    assert seen["environ"]["portico.model"] == "houses"
    assert seen["environ"]["portico.version"] == "1"
    assert seen["environ"]["portico.route"] == "/models/<name>"


# What is wrong is told beside the field.


def test_wrong_values_are_told_beside_their_fields_and_on_top(client: Client) -> None:
    before = _counted("my flowers", "invalid")
    answer = client.post("/models/my%20flowers", data={"len": "99", EVIL: ""})
    assert answer.status_code == 400
    assert _counted("my flowers", "invalid") == before + 1
    forms = _Forms(answer.text)
    assert forms.named("len")["aria-invalid"] == "true"
    assert forms.named("len")["value"] == "99"
    assert 'role="alert"' in answer.text
    assert '<a href="#field-0">Length</a> is 99; it must be between 0 and 10 cm.' in answer.text
    assert "This is missing; a number is expected." in answer.text
    assert "<title>Error: " in answer.text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rooms": "many", "town": "Ulm"}, "is no number"),
        ({"rooms": "3", "town": "Rome"}, "it must be one of Bonn, Ulm"),
        ({"rooms": "nan", "town": "Ulm"}, "a finite number is expected"),
        ({"rooms": "9" * 5000, "town": "Ulm"}, "Please look at"),
        ({}, "is missing"),
    ],
)
def test_what_does_not_fit_is_400(client: Client, fields: dict[str, str], problem: str) -> None:
    answer = client.post("/models/houses", data=fields)
    assert answer.status_code == 400
    assert problem in answer.text


@pytest.mark.parametrize(
    "text",
    ["", "{", "5", "[[1, 2]]", "[[1, 2], [3]]", '[["a", 2], [3, 4]]', "[" * 100_000, "1" * 5000],
)
def test_an_array_that_does_not_fit_is_told_at_its_field(client: Client, text: str) -> None:
    answer = client.post("/models/arrays", data={"grid": text})
    assert answer.status_code == 400
    assert _Forms(answer.text).named("grid")["aria-invalid"] == "true"


def test_a_missing_picture_is_told_at_its_field(client: Client) -> None:
    answer = client.post("/models/marks", data={})
    assert answer.status_code == 400
    assert _Forms(answer.text).named("image")["aria-invalid"] == "true"
    assert "is missing; choose a picture" in answer.text


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7 ...", _picture().getvalue()[:40], b"GIF89a" + b"\0" * 20]
)
def test_what_is_no_picture_is_refused(client: Client, data: bytes) -> None:
    before = _counted("marks", "invalid")
    answer = _upload(client, io.BytesIO(data), "photo.png")
    assert answer.status_code == 400
    assert _Forms(answer.text).named("image")["aria-invalid"] == "true"
    assert _counted("marks", "invalid") == before + 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull("the model's queue is full"), 503),
        (DeadlineExceeded("no turn came"), 504),
        (ModelFailed("the model failed on this input"), 500),
    ],
)
def test_when_the_model_cannot_answer_the_page_says_so_and_keeps_the_values(
    client: Client,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    runtime = catalogue.served("houses")._runtime
    monkeypatch.setattr(runtime, "run", fail)
    answer = client.post("/models/houses", data={"rooms": "3", "town": "Ulm"})
    assert answer.status_code == status
    assert str(error)[1:] in unescape(answer.text)
    assert _Forms(answer.text).named("rooms")["value"] == "3"
    assert answer.headers.get("Retry-After") == ("1" if isinstance(error, QueueFull) else None)


# Escaping.


def test_titles_labels_features_and_file_names_are_escaped(client: Client) -> None:
    pages = [
        client.get("/").text,
        client.get("/models/my%20flowers").text,
        client.post("/models/my%20flowers", data={"len": "1", EVIL: "1"}).text,
        client.post("/models/my%20flowers", data={"len": EVIL, EVIL: EVIL}).text,
        client.get("/models/my%20flowers/code").text,
        client.get("/models/my%20flowers/about").text,
        client.get("/models/my%20flowers/table").text,
        _table(client, f"len,{EVIL},{EVIL} key\n1,1,{EVIL}\n", "my%20flowers").text,
        _table(client, f"len,{EVIL}\n1,{EVIL}\n", "my%20flowers").text,
        _upload(client, _picture(), f"{EVIL}.png").text,
        client.get("/models/" + EVIL, headers={"Accept": "text/html"}).text,
    ]
    for page in pages:
        assert "<img src=x" not in page
        assert "onerror=alert(1)" in page
        assert " style=" not in page


# Models that cannot be asked.


def test_an_unknown_model_or_version_is_not_found(client: Client) -> None:
    for path in ("/models/nobody", "/models/houses/versions/9", "/models/houses/nothing"):
        answer = client.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 404
        assert "<h1>Not found</h1>" in answer.text
    assert "it has: 1" in client.get("/models/houses/versions/9").text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_model_that_failed_to_load_says_why(client: Client, method: str) -> None:
    answer = client.open("/models/broken", method=method)
    assert answer.status_code == 503
    assert "cannot be opened as ONNX" in answer.text
    assert "Refresh" not in answer.headers


def test_a_model_that_loads_is_looked_for_again(tmp_path: Path) -> None:
    (tmp_path / "late.onnx").write_bytes(b"")
    metrics = PredictionMetrics(CollectorRegistry())
    catalogue = Catalogue(find_artefacts(tmp_path / "late.onnx"), Allowance(tmp_path), metrics)
    answer = _Client(validator(create_app(SITE, catalogue))).get("/models/late")
    assert answer.status_code == 503
    assert answer.headers["Refresh"] == "2"
    assert answer.headers["Retry-After"] == "2"
    assert "is being loaded" in answer.text


def test_an_older_version_answers_where_the_newest_failed(client: Client) -> None:
    text = client.get("/models/my%20flowers").text
    assert "Version 2 failed to load" in text
    answer = client.post("/models/my%20flowers/versions/1", data={"len": "1", EVIL: "1"})
    assert answer.status_code == 200
    assert 'href="/ui/models/my%20flowers/versions/1/code"' in answer.text
    assert client.get("/models/my%20flowers/versions/2").status_code == 503


# A whole table.


def test_the_template_can_be_sent_back_as_it_is(client: Client) -> None:
    template = client.get("/models/houses/template.csv")
    assert template.mimetype == "text/csv"
    assert "houses-template.csv" in template.headers["Content-Disposition"]
    answer = _table(client, template.text)
    assert answer.status_code == 200
    assert "1 row answered" in answer.text


def test_a_table_is_answered_row_by_row(client: Client) -> None:
    answer = _table(client, "id,town,rooms,prediction\na,Ulm,3,\nb,Bonn,2,x\n")
    assert re.findall(r"<th scope=\"col\">([^<]+)", answer.text) == [
        "model prediction", "id", "town", "rooms", "prediction",
    ]  # fmt: skip
    assert re.findall(r"<tr><td>(\d+)</td><td>(\w)", answer.text) == [("300", "a"), ("250", "b")]


def test_the_answers_can_be_downloaded_with_all_that_was_sent(client: Client) -> None:
    text = 'id,town,rooms\n"a, ""b""",Ulm,3\n'
    answer = _table(client, "\ufeff" + text, **{"as": "csv"})
    assert answer.mimetype == "text/csv"
    assert "houses-answers.csv" in answer.headers["Content-Disposition"]
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["id", "town", "rooms", "prediction"],
        ['a, "b"', "Ulm", "3", "300"],
    ]


def test_a_long_table_is_run_in_parts_and_shown_in_part(client: Client) -> None:
    text = "town,rooms\n" + "Ulm,3\n" * 1234
    answer = _table(client, text)
    assert "1,234 rows answered" in answer.text
    assert answer.text.count("<tr><td>") == batch.SHOWN_ROWS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Line 1 is empty"),
        ("town\nUlm\n", "lacks the column 'rooms'"),
        ("town,rooms\n", "Line 2 is missing"),
        ("town,rooms\nUlm,3\nUlm\n", "Line 3 has 1 values; the header has 2 columns"),
        ("town,rooms\nUlm,3\nUlm,three\n", "Line 3, column 'rooms': 'three' is no number."),
        ('town,rooms\n"Ulm,3\n', "is not valid CSV"),
        ("town,rooms\n" + "Ulm,3\n" * 10_001, "has more than 10,000 rows"),
        (b"town,rooms\n\xff,3\n", "is not UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_line(
    client: Client, text: str | bytes, problem: str
) -> None:
    before = _counted("houses", "ok")
    answer = _table(client, text)
    assert answer.status_code == 400
    assert problem in unescape(answer.text)
    assert _counted("houses", "ok") == before


def test_a_missing_file_is_told(client: Client) -> None:
    answer = client.post("/models/houses/table", data={})
    assert answer.status_code == 400
    assert "is missing; choose a CSV file" in answer.text


@pytest.mark.parametrize("tab", ["table", "template.csv"])
@pytest.mark.parametrize("model", ["marks", "arrays"])
def test_what_fits_no_table_has_no_table(client: Client, model: str, tab: str) -> None:
    assert client.get(f"/models/{model}/{tab}").status_code == 404
    assert f"/models/{model}/{tab}" not in client.get(f"/models/{model}/code").text


# Code and facts.


def _examples(client: Client, path: str) -> dict[str, str]:
    text = client.get(path, environ_overrides={"portico.root": "/ml"}).text
    found = re.findall(r'<code id="([\w-]+)">(.*?)</code>', text, re.DOTALL)
    return {name: unescape(code) for name, code in found}


@pytest.mark.parametrize("model", ["my%20flowers", "houses", "marks", "arrays"])
def test_the_examples_are_code_and_ask_this_gateway(client: Client, model: str) -> None:
    examples = _examples(client, f"/models/{model}/code")
    for name, code in examples.items():
        assert "http://localhost/ml/" in code
        if name.endswith("python"):
            compile(code, name, "exec")
    assert f"http://localhost/ml/api/models/{model}/predict" in examples["curl"]
    assert f"/ml/v2/models/{model}/infer" in examples["v2-python"]


def test_the_example_of_a_table_row_is_what_the_api_takes(client: Client) -> None:
    code = _examples(client, "/models/houses/code")["curl"]
    body = json.loads(re.search(r"-d '(.*)'", code)[1])  # type: ignore[index]
    assert set(body["rows"][0]) == {"rooms", "town"}


def test_the_example_of_the_protocol_has_the_shape_of_the_inputs(client: Client) -> None:
    code = _examples(client, "/models/arrays/code")["v2-curl"]
    body = json.loads(re.search(r"-d '(.*)'", code)[1])  # type: ignore[index]
    assert body == {
        "inputs": [
            {"name": "grid", "shape": [1, 2, 2], "datatype": "FP32", "data": [0.0, 0.0, 0.0, 0.0]}
        ]
    }


def test_the_example_of_a_picture_uploads_a_file(client: Client) -> None:
    assert "-F image=@picture.jpg" in _examples(client, "/models/marks/code")["curl"]


def test_a_version_in_the_address_is_in_its_examples(client: Client) -> None:
    code = _examples(client, "/models/houses/versions/1/code")["curl"]
    assert "/api/models/houses/versions/1/predict" in code


def test_the_facts_name_hash_features_tensors_and_limits(
    client: Client, catalogue: Catalogue
) -> None:
    text = client.get("/models/houses/about").text
    served = catalogue.served("houses")
    for fact in (served.sha256, "sklearn_joblib", "Bonn, Ulm", "BYTES", "prediction", "4,096"):
        assert fact in text


@pytest.mark.parametrize("tab", ["", "/table", "/code", "/about"])
def test_no_link_leaves_the_outer_prefix(client: Client, tab: str) -> None:
    environ = {"SCRIPT_NAME": "/ml/ui", "portico.root": "/ml"}
    text = client.get(f"/models/houses{tab}", environ_overrides=environ).text
    links = [
        part.split('"')[0]
        for word in ('href="', 'src="', 'action="')
        for part in text.split(word)[1:]
    ]
    assert all(link.startswith(("/ml/", "#", "?", "data:")) for link in links)


def test_form_values_read_as_a_person_writes_them() -> None:
    values = (5.0, 0.25, 1e30, True, False, "a.0", 7)
    assert [text_of(value) for value in values] == ["5", "0.25", "1e+30", "true", "", "a.0", "7"]
