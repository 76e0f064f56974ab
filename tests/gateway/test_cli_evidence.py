"""``portico models``: replay as a gate, and shares of the traffic."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from test_cli_versions import Commands, _alone, models, shop

from portico.serving.predictions import Prediction
from portico.serving.segments import segment_of, stacks_of
from portico.serving.versions import CANDIDATE, PRODUCTION, Traffic
from portico.storage.opening import database_url, open_predictions

if TYPE_CHECKING:
    from version_shop import Shop

__all__ = ["_alone", "models", "shop"]


@pytest.fixture
def asked(shop: Shop) -> int:
    """Log requests to the model, and return how many."""
    store = open_predictions(database_url(shop.folder))
    made = []
    for number in range(7):
        prediction = Prediction("m", "1", "")
        prediction.rows = 3
        prediction.inputs = {"x": np.full((3, 2), number, np.float32)}
        prediction.outputs = {}
        made.append(prediction)
    store.write([segment_of(stack) for stack in stacks_of(made)])
    return len(made)


def production(shop: Shop) -> int:
    return shop.versions.state().aliases["m"][PRODUCTION]


def test_a_replay_that_changes_too_much_promotes_nothing(
    shop: Shop, models: Commands, asked: int
) -> None:
    told = models("promote", "m", 2, "--replay", asked, "--max-changed", "1%", "--wait", 0)
    assert told.code == 1
    assert production(shop) == 1
    assert "7 requests replayed, 21 rows, 21 changed (100.00%)" in told.out
    assert "nothing was promoted" in told.out
    assert re.search(r"production +\d+\.\d{3} ms +\d+\.\d{3} ms", told.out)
    assert re.search(r"x1 6, x2 6 +y? ?\[?10", told.out)


def test_a_replay_that_changes_as_much_as_it_may_promotes(
    shop: Shop, models: Commands, asked: int
) -> None:
    told = models("promote", "m", 2, "--replay", asked, "--max-changed", "100%", "--wait", 0)
    assert (told.code, production(shop)) == (0, 2), told.out + told.err


def test_a_gate_without_requests_is_shut(shop: Shop, models: Commands) -> None:
    told = models("promote", "m", 2, "--replay", 10, "--max-changed", "100%", "--wait", 0)
    assert (told.code, production(shop)) == (1, 1)
    assert "no proof" in told.out


def test_a_replay_alone_promotes_nothing(shop: Shop, models: Commands, asked: int) -> None:
    told = models("replay", "m", 3, "--count", asked - 2)
    assert (told.code, production(shop)) == (0, 1)
    assert "5 requests replayed" in told.out
    assert "0 changed" in models("replay", "m", 1).out


def test_a_share_makes_a_candidate_of_a_version(shop: Shop, models: Commands) -> None:
    told = models("promote", "m", 2, "--share", "10%", "--wait", 0)
    assert told.code == 0, told.err
    assert production(shop) == 1
    state = shop.versions.state()
    assert state.aliases["m"][CANDIDATE] == 2
    assert state.traffic["m"] == Traffic(canary=0.1)


def test_shares_are_set_one_by_one_and_shown(shop: Shop, models: Commands) -> None:
    models("traffic", "m", "--canary", "25%", "--wait", 0)
    told = models("traffic", "m", "--shadow", "0.5", "--wait", 0)
    assert told.code == 0, told.err
    assert shop.versions.state().traffic["m"] == Traffic(canary=0.25, shadow=0.5)
    shown = models("traffic", "m").out
    assert "25.00% of all callers" in shown
    assert "50.00% of all requests" in shown
    models("traffic", "m", "--canary", "0", "--shadow", "0%", "--wait", 0)
    assert shop.versions.state().traffic == {}


@pytest.mark.parametrize("share", ["110%", "-1", "some", "nan", "5"])
def test_what_is_no_share_is_refused(models: Commands, share: str) -> None:
    told = models("traffic", "m", f"--canary={share}")
    assert told.code == 2
    assert "10% or 0.1" in told.err


def test_a_limit_without_a_replay_is_refused(shop: Shop, models: Commands) -> None:
    told = models("promote", "m", 2, "--max-changed", "1%")
    assert (told.code, production(shop)) == (2, 1)
    assert "--replay" in told.err
