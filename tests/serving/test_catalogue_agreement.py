"""Whatever is done to the store, all workers come to serve the same."""

from __future__ import annotations

import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="the tests make their models with onnx")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from version_shop import Shop, Worker, soon

from portico.serving.errors import ServingError, UnknownModel
from portico.serving.models import State
from portico.serving.versions import CANDIDATE, PRODUCTION, VersionState

LARGEST = 5

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(["good", "promoted", "broken"])),
        st.tuples(st.just("promote"), st.integers(1, LARGEST)),
        st.tuples(st.just("candidate"), st.integers(1, LARGEST)),
        st.tuples(st.just("rollback"), st.none()),
        st.tuples(st.just("retire"), st.integers(1, LARGEST)),
    ),
    min_size=1,
    max_size=8,
)


def take(shop: Shop, step: str, argument: Any) -> None:
    """Do one thing to the store; what it refuses is no change."""
    published = len(shop.versions.state().versions)
    with suppress(ServingError):
        match step:
            case "publish" if published < LARGEST:
                value = 10.0 * (published + 1)
                wrong = value + 1 if argument == "broken" else None
                shop.publish(value, answers=wrong, promote=argument == "promoted")
            case "promote":
                shop.promote(argument)
            case "candidate":
                shop.versions.set_alias("m", CANDIDATE, argument, "test")
            case "rollback":
                shop.versions.rollback("m", "test")
            case "retire":
                shop.versions.retire("m", argument, "test")


def seen(worker: Worker) -> Any:
    """Return what a worker serves: who answers, under which names, and what failed."""
    try:
        model = worker.catalogue.model("m")
    except UnknownModel:
        return None
    current = model.current
    failed = {v.name for v in model.versions if v.state is State.FAILED}
    answer = worker.says() if current.served else None
    return current.name, answer, {n: v.name for n, v in model.named().items()}, failed


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(STEPS)
def test_two_followers_agree_after_any_sequence_of_changes(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(Shop(Path(folder))) as shop:
        along = shop.worker(idle=0.0)
        for step, argument in steps:
            take(shop, step, argument)
        shop.publish(0.0)  # There is something to agree on, and the end is a revision of its own.
        late = shop.worker(idle=0.0)
        shop.agree()
        soon(lambda: seen(along) == seen(late))
        state = shop.versions.state()
        name, answer, names, failed = seen(late)
        usable = {str(r.version) for r in state.versions if r.state is VersionState.AVAILABLE}
        assert usable == {n for n in names if n.isdecimal()}
        wanted = str(state.aliases["m"][PRODUCTION])
        assert name == wanted or wanted in failed
        if answer is not None:
            assert answer == (0.0 if name == str(len(state.versions)) else 10.0 * int(name))
