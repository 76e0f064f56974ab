"""The other tabs of a model's page: whole table, code, facts."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from ui_models import (
    client_of,
    counted,
    send_table,
    train_catalogue,
)

from apps.shell.site import MountInfo, Site
from apps.ui import batch, create_app
from apps.ui.fields import text_of

if TYPE_CHECKING:
    from werkzeug.test import Client

    from portico.serving.catalogue import Catalogue


REGISTRY = CollectorRegistry()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return train_catalogue(tmp_path_factory.mktemp("ui"), REGISTRY)


@pytest.fixture
def client(catalogue: Catalogue) -> Client:
    return client_of(catalogue)


# A whole table.


def test_the_template_can_be_sent_back_as_it_is(client: Client) -> None:
    template = client.get("/models/houses/template.csv")
    assert template.mimetype == "text/csv"
    assert "houses-template.csv" in template.headers["Content-Disposition"]
    answer = send_table(client, template.text)
    assert answer.status_code == 200
    assert "1 row answered" in answer.text


def test_a_table_is_answered_row_by_row(client: Client) -> None:
    answer = send_table(client, "id,town,rooms,prediction\na,Ulm,3,\nb,Bonn,2,x\n")
    assert re.findall(r"<th scope=\"col\">([^<]+)", answer.text) == [
        "model prediction", "id", "town", "rooms", "prediction",
    ]  # fmt: skip
    assert re.findall(r"<tr><td>(\d+)</td><td>(\w)", answer.text) == [("300", "a"), ("250", "b")]


def test_the_answers_can_be_downloaded_with_all_that_was_sent(client: Client) -> None:
    text = 'id,town,rooms\n"a, ""b""",Ulm,3\n'
    answer = send_table(client, "\ufeff" + text, **{"as": "csv"})
    assert answer.mimetype == "text/csv"
    assert "houses-answers.csv" in answer.headers["Content-Disposition"]
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["id", "town", "rooms", "prediction"],
        ['a, "b"', "Ulm", "3", "300"],
    ]


def test_a_long_table_is_run_in_parts_and_shown_in_part(client: Client) -> None:
    text = "town,rooms\n" + "Ulm,3\n" * 1234
    answer = send_table(client, text)
    assert "1,234 rows answered" in answer.text
    assert answer.text.count("<tr><td>") == batch.SHOWN_ROWS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Line 1 is empty"),
        ("town\nUlm\n", "lacks the column 'rooms'"),
        ("town,rooms\n", "Line 2 is missing"),
        ("town,rooms\nUlm,3\nUlm\n", "Line 3 has 1 values; the header has 2 columns"),
        (
            "town,rooms\nUlm,3\nUlm,three\n",
            "Line 3, column 'rooms' is 'three'; a number is expected.",
        ),
        ('town,rooms\n"Ulm,3\n', "is not valid CSV"),
        ("town,rooms\n" + "Ulm,3\n" * 10_001, "has more than 10,000 rows"),
        (b"town,rooms\n\xff,3\n", "is not UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_line(
    client: Client, text: str | bytes, problem: str
) -> None:
    before = counted(REGISTRY, "houses", "ok")
    answer = send_table(client, text)
    assert answer.status_code == 400
    assert problem in unescape(answer.text)
    assert counted(REGISTRY, "houses", "ok") == before


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
    client: Client, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = client.get("/models/houses/about").text
    served = catalogue.served("houses")
    for fact in (served.sha256, "sklearn_joblib", "Bonn, Ulm", "BYTES", "prediction", "4,096"):
        assert fact in text
    assert "run together, 64 at most" in text
    why = "output 'y' of a row changes with the rows beside it"
    monkeypatch.setattr(served, "batching", why)
    text = client.get("/models/houses/about").text
    assert "never run together: output &#39;y&#39; of a row changes" in text


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


def test_code_says_so_where_the_api_needs_a_login(catalogue: Catalogue) -> None:
    for access, is_said in (("open", False), ("login", True)):
        site = Site(mounts=(MountInfo("api", "/api", "API", access=access),))
        page = create_app(site, catalogue).test_client().get("/models/houses/code").text
        assert ("access.api" in page) is is_said
