from __future__ import annotations

import pytest

from loadtests.run import locust
from loadtests.server import gunicorn

pytestmark = pytest.mark.live


def test_everybody_who_comes_is_served(demo_server):
    done = locust(demo_server, users=8, seconds=5)
    assert done.returncode == 0, done.stdout
    for who in ("/v2/models/[name]/infer", "/ui/models/[name] send", "/metrics", "/admin/"):
        assert who in done.stdout


def test_a_run_fails_when_answers_are_wrong():
    """Against a server that answers everything with the same 200, hardly a check may pass."""
    with gunicorn("loadtests.baselines:bare", settings={"workers": 1}) as server:
        done = locust(server, users=4, seconds=2)
    assert done.returncode == 1, done.stdout
