"""A canary answers its share of callers, the same ones at every door and in every worker."""

from __future__ import annotations

import time

import pytest

from loadtests.promotes import MODEL, constant_gateway, wait_for_all
from loadtests.server import wait_until
from portico.serving.traffic import place
from portico.serving.versions import CANDIDATE, Traffic

pytestmark = pytest.mark.live

INFER = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}]}
ADDRESSES = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(200)]


@pytest.fixture(scope="module")
def gateway():
    # Each caller has an address of its own, as behind a proxy.
    options = {"trusted_proxies": '["127.0.0.1"]', "access__api": "open", "access__ui": "open"}
    with constant_gateway(**options, access__metrics="open") as (server, versions):
        versions.set_alias(MODEL, CANDIDATE, 2, "test")
        yield server, versions


def share_traffic(gateway, **shares):
    server, versions = gateway
    versions.set_traffic(MODEL, Traffic(**shares), "test")
    wait_for_all(versions, 2)
    return server


def answers_by(server, address):
    """Return the version that answers a caller at each door."""
    v2 = server.ask("POST", f"/v2/models/{MODEL}/infer", INFER, X_Forwarded_For=address)
    row = {"x1": 0, "x2": 0}
    api = server.ask("POST", f"/api/models/{MODEL}/predict", row, X_Forwarded_For=address)
    return v2.json()["model_version"], api.json()["version"]


def test_a_canary_answers_its_share_and_stays_with_its_callers(gateway):
    server = share_traffic(gateway, canary=0.25)
    for _ in range(2):
        for address in ADDRESSES:
            expected = "2" if place(MODEL, address) < 0.25 else "1"
            assert answers_by(server, address) == (expected, expected)
    assert 0.15 < sum(place(MODEL, address) < 0.25 for address in ADDRESSES) / 200 < 0.35


def test_who_names_a_version_gets_it(gateway):
    server = share_traffic(gateway, canary=1.0)
    assert answers_by(server, ADDRESSES[0]) == ("2", "2")
    path = f"/v2/models/{MODEL}/versions/production/infer"
    assert server.ask("POST", path, INFER).json()["model_version"] == "1"


def test_a_shadow_is_counted_and_answers_nobody(gateway):
    server = share_traffic(gateway, shadow=1.0)
    time.sleep(1)
    for address in ADDRESSES[:50]:
        assert answers_by(server, address) == ("1", "1")
    compared = "portico_shadow_compared_total"
    wait_until(lambda: server.metric(compared, model=MODEL) == 100, server, 20)
    assert server.metric(compared, model=MODEL, outcome="same") == 0
    assert server.metric(compared, model=MODEL, outcome="changed") > 50
