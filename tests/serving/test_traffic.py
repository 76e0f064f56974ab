"""Canary and shadow: who is answered by the candidate, and what is compared aside."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from prometheus_client import CollectorRegistry
from version_shop import Shop, soon

from portico.serving.metrics import PredictionMetrics
from portico.serving.predictions import Prediction
from portico.serving.shadow import Shadow
from portico.serving.traffic import place, tried_by
from portico.serving.versions import CANDIDATE, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from version_shop import Worker

    from portico.serving.service import ServedModel

CALLERS = [f"user{number}" for number in range(5000)]


def test_a_share_of_callers_is_as_large_as_it_says() -> None:
    for share in (0.01, 0.1, 0.5):
        found = sum(place("m", caller) < share for caller in CALLERS) / len(CALLERS)
        assert found == pytest.approx(share, abs=0.02)


def test_a_share_that_grows_keeps_the_callers_it_had() -> None:
    small = {caller for caller in CALLERS if place("m", caller) < 0.1}
    large = {caller for caller in CALLERS if place("m", caller) < 0.2}
    assert small < large
    # Another model tries other people.
    assert small != {caller for caller in CALLERS if place("other", caller) < 0.1}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with closing(Shop(tmp_path)) as made:
        made.publish(10)
        made.publish(20)
        yield made


def follow(shop: Shop, **shares: float) -> Worker:
    """Set the traffic, and return a worker that has taken it over."""
    shop.versions.set_alias("m", CANDIDATE, 2, "test")
    shop.versions.set_traffic("m", Traffic(**shares), "test")
    worker = shop.worker()
    soon(lambda: worker.catalogue.model("m").traffic == Traffic(**shares))
    soon(lambda: worker.catalogue.version("m", "2").served)
    return worker


def test_the_candidate_answers_its_callers_alone(shop: Shop) -> None:
    model = follow(shop, canary=0.3).catalogue.model("m")
    versions = {caller: tried_by(model, caller) for caller in CALLERS[:500]}
    tried = {caller for caller, served in versions.items() if served}
    assert tried == {caller for caller in CALLERS[:500] if place("m", caller) < 0.3}
    assert {served.version for served in versions.values() if served} == {"2"}


def test_without_a_share_nobody_meets_the_candidate(shop: Shop) -> None:
    model = follow(shop, shadow=0.5).catalogue.model("m")
    assert not any(tried_by(model, caller) for caller in CALLERS[:100])


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def shadowing(worker: Worker, registry: CollectorRegistry, **options: Any) -> Shadow:
    compared = PredictionMetrics(registry).shadow
    shadow = Shadow(worker.catalogue, compared, interval=0.02, **options)
    shadow.start()
    return shadow


def ask(served: ServedModel) -> float:
    """Ask as a view does, and return the seconds it took."""
    started = time.perf_counter()
    prediction = Prediction(served.name, served.version, "")
    prediction.inputs = {"x": np.zeros((3, 2), np.float32)}
    served.infer(prediction)
    served.complete(prediction)
    return time.perf_counter() - started


def count(registry: CollectorRegistry, outcome: str) -> int:
    labels = {"model": "m", "outcome": outcome}
    return int(registry.get_sample_value("portico_shadow_compared_total", labels) or 0)


def test_a_shadow_compares_what_production_answered(
    shop: Shop, registry: CollectorRegistry
) -> None:
    worker = follow(shop, shadow=1.0)
    served = worker.catalogue.served("m")
    recorded: list[Prediction] = []
    served.recorder = recorded.append
    with closing(shadowing(worker, registry)) as shadow:
        soon(lambda: shadow.of("m"))
        for _ in range(10):
            ask(served)
        soon(lambda: count(registry, "changed") == 10)
        told = shadow.of("m")
        assert told is not None
        assert (told.version, told.candidate, told.compared) == ("1", "2", 10)
        assert told.worst[0].difference == 10
        # The candidate's answers are nobody's predictions.
        assert [prediction.version for prediction in recorded] == ["1"] * 10
        shop.versions.set_traffic("m", Traffic(), "test")
        soon(lambda: shadow.of("m") is None)
        assert served.recorder == recorded.append


def test_a_shadow_takes_its_share(shop: Shop, registry: CollectorRegistry) -> None:
    worker = follow(shop, shadow=0.2)
    served = worker.catalogue.served("m")
    with closing(shadowing(worker, registry, waiting=10_000)) as shadow:
        soon(lambda: shadow.of("m"))
        for _ in range(1000):
            ask(served)
        soon(lambda: not shadow._queue)
        assert 120 < count(registry, "changed") < 280


def test_a_slow_candidate_delays_no_answer_and_is_dropped(
    shop: Shop, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = follow(shop, shadow=1.0)
    served = worker.catalogue.served("m")
    candidate = worker.catalogue.served("m", "2")
    runtime = candidate._batcher._runtime  # type: ignore[attr-defined]
    monkeypatch.setattr(runtime, "run", lambda *_: time.sleep(1) or {})
    with closing(shadowing(worker, registry, waiting=5)) as shadow:
        soon(lambda: shadow.of("m"))
        slowest = max(ask(served) for _ in range(50))
        assert slowest < 0.5
        assert count(registry, "dropped") >= 40
