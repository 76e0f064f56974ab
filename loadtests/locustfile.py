"""Who comes to a gateway, and what they do there.

Run by ``make loadtest``, or by hand against any gateway::

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000

The operator logs in with ``LOADTEST_USER`` and ``LOADTEST_PASSWORD``; without a password there is
none.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

from locust import FastHttpUser, between, constant_pacing, task
from prometheus_client.parser import text_string_to_metric_families

from loadtests.payloads import Form, infer_request, picture, problem_with

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any], str]

PASSWORD = os.environ.get("LOADTEST_PASSWORD", "")


class _Visitor(FastHttpUser):
    """Somebody who asks and checks what comes back."""

    abstract = True
    connection_timeout = network_timeout = 20.0

    def check(
        self, method: str, path: str, expected: int = 200, fits: Check | None = None, **how: Any
    ) -> Any:
        """Send a request and return the answer; it fails unless it is what was expected.

        Args:
            method: such as ``POST``.
            path: from the gateway's root.
            expected: status of the answer.
            fits: says what is wrong with an answer of that status, nothing when it is right.
            how: for locust, such as ``json`` and ``name``.
        """
        how.setdefault("name", path)
        with self.client.request(
            method, path, catch_response=True, allow_redirects=False, **how
        ) as answer:
            if answer.status_code != expected:
                answer.failure(f"{answer.status_code} instead of {expected}: {answer.text[:200]}")
            elif not answer.headers.get("X-Request-ID"):
                answer.failure("no request id")
            elif problem := fits(answer) if fits else "":
                answer.failure(problem)
            else:
                answer.success()
            return answer

    def models(self) -> list[str]:
        """Return the names of the models that are ready."""
        models = self.check("GET", "/api/models").json()["models"]
        return [model["name"] for model in models if model["state"] == "ready"]


class Person(_Visitor):
    """Reads the gallery, opens a model, fills in its form and looks at the answer."""

    weight = 4
    wait_time = between(0.5, 2)

    @task(2)
    def look_around(self) -> None:
        """Open the pages that lead to the models."""
        self.check("GET", "/")
        self.check("GET", "/ui/", fits=_holds("/ui/models/"))

    @task(5)
    def fill_in_a_form(self) -> None:
        """Send the example that the form itself offers, or a picture where it takes one."""
        path = f"/ui/models/{random.choice(self.models())}"
        form = Form(self.check("GET", f"{path}?example=1", name="/ui/models/[name]").text)
        how: dict[str, Any] = {"data": form.values}
        if form.files:
            how["files"] = {name: ("picture.png", picture(), "image/png") for name in form.files}
        answered = _holds('class="p-answer"')
        self.check("POST", path, fits=answered, name="/ui/models/[name] send", **how)

    @task(1)
    def mistype(self) -> None:
        """Send an empty form: the page must say so instead of failing."""
        path = f"/ui/models/{random.choice(self.models())}"
        form, told = {"nothing": ""}, _holds('role="alert"')
        self.check("POST", path, 400, told, data=form, name="/ui/models/[name] mistyped")


class Program(_Visitor):
    """Asks models with tensors and with rows, as fast as an ordinary batch job does."""

    weight = 8
    wait_time = between(0.02, 0.2)

    def on_start(self) -> None:
        """Read what the models take, once, as a client does."""
        self.metadata = [self._read("/v2/models", name) for name in self.models()]
        details = [self._read("/api/models", model["name"]) for model in self.metadata]
        self.examples = {d["name"]: d["example"] for d in details if d["example"]}
        self.pictured = [d["name"] for d in details if d["takes"] == "picture"]

    def _read(self, folder: str, name: str) -> Any:
        return self.check("GET", f"{folder}/{name}", name=f"{folder}/[name]").json()

    @task(10)
    def infer(self) -> None:
        """Send tensors to a model that takes numbers alone, and check what comes back."""
        known = [m for m in self.metadata if all(s["datatype"] != "BYTES" for s in m["inputs"])]
        model = random.choice(known)
        request = infer_request(model, random.choice((1, 1, 1, 8, 64)))

        def fits(answer: Any) -> str:
            return problem_with(answer.json(), model, request["id"])

        path = f"/v2/models/{model['name']}/infer"
        self.check("POST", path, fits=fits, json=request, name="/v2/models/[name]/infer")

    @task(4)
    def predict(self) -> None:
        """Send the row that the API gives as its example, several times over."""
        name, example = random.choice(list(self.examples.items()))
        rows = example["rows"] * random.choice((1, 1, 5))

        def fits(answer: Any) -> str:
            count = len(answer.json()["predictions"])
            return "" if count == len(rows) else f"{count} predictions for {len(rows)} rows"

        path, label = f"/api/models/{name}/predict", "/api/models/[name]/predict"
        self.check("POST", path, fits=fits, json={"rows": rows}, name=label)

    @task(1)
    def predict_a_picture(self) -> None:
        """Send a picture as the body."""
        if self.pictured:
            path = f"/api/models/{random.choice(self.pictured)}/predict"
            headers = {"Content-Type": "image/png"}
            label = "/api/models/[name]/predict picture"
            self.check("POST", path, data=picture(), headers=headers, name=label)

    @task(1)
    def ask_wrongly(self) -> None:
        """Send what no model takes: the answer must be a 400 in the one shape."""
        path = f"/v2/models/{random.choice(self.metadata)['name']}/infer"
        self.check("POST", path, 400, _has_error_shape, data='{"inputs": [', name="/v2 malformed")


class Scraper(_Visitor):
    """Prometheus: reads the metrics again and again, and its counters never go back."""

    fixed_count = 1
    wait_time = constant_pacing(2)
    last = 0.0

    @task
    def scrape(self) -> None:
        """Read all metrics."""
        self.check("GET", "/metrics", fits=self._goes_on)

    def _goes_on(self, answer: Any) -> str:
        total = sum(
            sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == "portico_http_requests_total"
        )
        last, self.last = self.last, total
        return f"requests went from {last} back to {total}" if total < last else ""


class Operator(_Visitor):
    """Logs in and watches the console."""

    fixed_count = 1 if PASSWORD else 0
    abstract = not PASSWORD
    wait_time = between(1, 3)

    def on_start(self) -> None:
        """Log in with the account of the environment."""
        name = os.environ.get("LOADTEST_USER", "admin")
        form = {"name": name, "password": PASSWORD, "next": "/admin/"}
        self.check("POST", "/account/login", 303, data=form)

    @task
    def watch(self) -> None:
        """Open the overview, and now and then another page of the console."""
        page = self.check("GET", "/admin/")
        links = [link for link in Form(page.text).links if link.startswith("/admin/")]
        if links and random.random() < 0.3:
            self.check("GET", random.choice(links), name="/admin/[page]")


def _holds(part: str) -> Check:
    """Make a check that a page holds a piece of text."""
    return lambda answer: "" if part in answer.text else f"the page lacks {part}"


def _has_error_shape(answer: Any) -> str:
    members = set(answer.json())
    return "" if members == {"error", "code", "request_id", "details"} else f"has {members}"
