"""The gallery and the form of a model, on models trained here."""

from __future__ import annotations

import io
import re
from html import unescape
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry
from ui_models import (
    EVIL,
    SITE,
    Tags,
    ValidatedClient,
    client_of,
    counted,
    picture,
    send_table,
    train_catalogue,
    upload,
)
from werkzeug.test import Client

from apps.ui import create_app
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.errors import DeadlineExceeded, ModelFailed, QueueFull
from portico.serving.metrics import PredictionMetrics

if TYPE_CHECKING:
    from pathlib import Path


REGISTRY = CollectorRegistry()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return train_catalogue(tmp_path_factory.mktemp("ui"), REGISTRY)


@pytest.fixture
def client(catalogue: Catalogue) -> Client:
    return client_of(catalogue)


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
    forms = Tags(client.get("/models/my%20flowers").text)
    length = forms.named("len")
    assert length["type"] == "number"
    assert (length["min"], length["max"], length["step"]) == ("0", "10", "0.1")
    assert length["value"] == "4.5"
    assert length["aria-describedby"] == ("field-0-unit field-0-about field-0-hint field-0-problem")
    assert forms.named(EVIL)["value"] == ""


def test_every_description_that_a_field_names_exists(client: Client) -> None:
    for path in ("/models/my%20flowers", "/models/houses", "/models/marks", "/models/arrays"):
        forms = Tags(client.get(path).text)
        ids = {attrs.get("id") for _, attrs in forms.tags}
        named = " ".join(attrs.get("aria-describedby") or "" for _, attrs in forms.tags)
        assert set(named.split()) <= ids


def test_closed_choices_are_a_list_to_choose_from(client: Client) -> None:
    text = client.get("/models/houses").text
    assert Tags(text).named("town")
    assert "<select" in text
    assert re.findall(r'<option value="(\w*)"', text) == ["", "Bonn", "Ulm"]


def test_an_example_fills_every_field(client: Client) -> None:
    text = client.get("/models/houses?example=1").text
    assert Tags(text).named("rooms")["value"]
    assert '<option value="Bonn" selected>' in text
    grid = client.get("/models/arrays?example=1").text
    assert "[[0.0, 0.0], [0.0, 0.0]]" in grid


def test_a_picture_is_sent_as_a_file(client: Client) -> None:
    text = client.get("/models/marks").text
    assert 'enctype="multipart/form-data"' in text
    assert Tags(text).named("image")["type"] == "file"
    assert "Fill in an example" not in text


# Answers.


def test_a_class_comes_with_bars_and_the_values_stay(client: Client) -> None:
    answer = client.post("/models/my%20flowers", data={"len": "8.5", EVIL: "5"})
    assert answer.status_code == 200
    assert '<p class="p-answer">virginica</p>' in answer.text
    assert answer.text.count('class="p-bar"') == 2
    assert re.search(r'<rect width="9\d\.\d\d"', answer.text)
    assert Tags(answer.text).named("len")["value"] == "8.5"


def test_a_value_comes_with_its_unit(client: Client) -> None:
    text = client.post("/models/houses", data={"rooms": "3", "town": "Ulm"}).text
    assert re.search(r'<p class="p-answer">300 <span class="p-unit">EUR</span></p>', text)
    assert '<option value="Ulm" selected>' in text


def test_arrays_come_as_json(client: Client) -> None:
    text = client.post("/models/arrays", data={"grid": "[[1, 2], [3, 4]]"}).text
    assert "[[-1.0, -2.0], [-3.0, -4.0]]" in text


def test_a_picture_comes_back_small_with_its_label(client: Client) -> None:
    answer = upload(client, picture(), "photo.png")
    assert answer.status_code == 200
    assert '<p class="p-answer">bright</p>' in answer.text
    assert 'src="data:image/png;base64,' in answer.text
    assert "p-tiny" in answer.text
    large = upload(client, picture("black", (900, 300)), "large.png")
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

    before = counted(REGISTRY, "houses", "ok")
    Client(spy).post("/models/houses", data={"rooms": "3", "town": "Ulm"})
    assert counted(REGISTRY, "houses", "ok") == before + 1
    assert seen["environ"]["portico.model"] == "houses"
    assert seen["environ"]["portico.version"] == "1"
    assert seen["environ"]["portico.route"] == "/models/<name>"


# What is wrong is told beside the field.


def test_wrong_values_are_told_beside_their_fields_and_on_top(client: Client) -> None:
    before = counted(REGISTRY, "my flowers", "invalid")
    answer = client.post("/models/my%20flowers", data={"len": "99", EVIL: ""})
    assert answer.status_code == 400
    assert counted(REGISTRY, "my flowers", "invalid") == before + 1
    forms = Tags(answer.text)
    assert forms.named("len")["aria-invalid"] == "true"
    assert forms.named("len")["value"] == "99"
    assert 'role="alert"' in answer.text
    assert '<a href="#field-0">Length</a> is 99; it must be between 0 and 10 cm.' in answer.text
    assert "This is missing; a number is expected." in answer.text
    assert "<title>Error: " in answer.text


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rooms": "many", "town": "Ulm"}, "a number is expected"),
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
    assert Tags(answer.text).named("grid")["aria-invalid"] == "true"


def test_a_missing_picture_is_told_at_its_field(client: Client) -> None:
    answer = client.post("/models/marks", data={})
    assert answer.status_code == 400
    assert Tags(answer.text).named("image")["aria-invalid"] == "true"
    assert "is missing; choose a picture" in answer.text


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7 ...", picture().getvalue()[:40], b"GIF89a" + b"\0" * 20]
)
def test_what_is_no_picture_is_refused(client: Client, data: bytes) -> None:
    before = counted(REGISTRY, "marks", "invalid")
    answer = upload(client, io.BytesIO(data), "photo.png")
    assert answer.status_code == 400
    assert Tags(answer.text).named("image")["aria-invalid"] == "true"
    assert counted(REGISTRY, "marks", "invalid") == before + 1


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

    runtime = catalogue.served("houses")._batcher._runtime
    monkeypatch.setattr(runtime, "run", fail)
    answer = client.post("/models/houses", data={"rooms": "3", "town": "Ulm"})
    assert answer.status_code == status
    assert str(error)[1:] in unescape(answer.text)
    assert Tags(answer.text).named("rooms")["value"] == "3"
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
        send_table(client, f"len,{EVIL},{EVIL} key\n1,1,{EVIL}\n", "my%20flowers").text,
        send_table(client, f"len,{EVIL}\n1,{EVIL}\n", "my%20flowers").text,
        upload(client, picture(), f"{EVIL}.png").text,
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
    answer = ValidatedClient(validator(create_app(SITE, catalogue))).get("/models/late")
    assert answer.status_code == 503
    assert answer.headers["Refresh"] == "2"
    assert answer.headers["Retry-After"] == "2"
    assert "is being loaded" in answer.text


def test_an_unready_version_is_asked_and_says_what_is_wrong(
    client: Client, catalogue: Catalogue
) -> None:
    version = catalogue.version("my flowers", "1")
    catalogue.judge(version, "it has not answered for 30 s")
    try:
        answer = client.get("/models/my%20flowers/versions/1")
        assert answer.status_code == 200
        assert "p-badge-unready" in answer.text
        assert "Version 1 does not answer as it should: it has not answered for 30 s" in answer.text
    finally:
        catalogue.judge(version, "")
    assert "p-badge-unready" not in client.get("/models/my%20flowers/versions/1").text


def test_an_older_version_answers_where_the_newest_failed(client: Client) -> None:
    text = client.get("/models/my%20flowers").text
    assert "Version 2 failed to load" in text
    answer = client.post("/models/my%20flowers/versions/1", data={"len": "1", EVIL: "1"})
    assert answer.status_code == 200
    assert 'href="/ui/models/my%20flowers/versions/1/code"' in answer.text
    assert client.get("/models/my%20flowers/versions/2").status_code == 503
