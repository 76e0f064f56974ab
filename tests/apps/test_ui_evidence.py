"""The about tab tells drift to somebody who sees the word for the first time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from ui_models import SITE, train_catalogue
from werkzeug.test import Client

from apps.ui import create_app
from apps.ui.about import Evidence
from portico.serving.drift import Reference
from portico.serving.drift_report import DriftReport, compare
from portico.serving.errors import StorageUnavailable
from portico.serving.signature import Signature, features_of
from portico.serving.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.serving.catalogue import Catalogue


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return train_catalogue(tmp_path_factory.mktemp("evidence"), CollectorRegistry())


def shown(catalogue: Catalogue, drift: Callable[[str, str], DriftReport | None]) -> str:
    """Return the text of the drift section."""
    app = create_app(SITE, catalogue, Evidence(drift, lambda _: None))
    page = Client(app).get("/models/houses/about")
    assert page.status_code == 200
    section = re.search(r'id="drift-title">(.*?)</section>', page.text, re.DOTALL)
    assert section
    return " ".join(re.sub(r"<[^>]+>", " ", section[1]).split())


def report(shift: float, rows: int) -> DriftReport:
    spec = TensorSpec("x", Datatype.FP64, (-1, 2))
    signature = Signature((spec,), (), features_of((spec,)))
    numbers = np.random.default_rng(0).normal(size=(1000, 2))
    reference = Reference.of(signature, {"x": numbers}, {})
    now = {"x": numbers[:rows] + np.array([shift, 0.0])}
    return compare(reference, reference.count(now, {}, rows))


def test_a_feature_that_moved_stands_first_and_says_how(catalogue: Catalogue) -> None:
    text = shown(catalogue, lambda *_: report(2.0, 500))
    assert "500 rows of the last day, held against 1,000 rows of reference" in text
    assert re.search(r"x1 large \d\.\d\d under 0.1 % .* before, .* now x2 no drift", text)


def test_of_few_rows_it_says_how_many_are_needed(catalogue: Catalogue) -> None:
    assert "20 rows of the last day were looked at; 50 are needed" in shown(
        catalogue, lambda *_: report(2.0, 20)
    )


def test_without_a_reference_it_says_where_one_comes_from(catalogue: Catalogue) -> None:
    assert "the first rows served will be the reference" in shown(catalogue, lambda *_: None)


def test_a_database_that_is_away_takes_the_page_not_along(catalogue: Catalogue) -> None:
    def away(name: str, version: str) -> None:
        raise StorageUnavailable("the gateway's database cannot be used now", "gone")

    assert "Nothing to compare with" in shown(catalogue, away)
