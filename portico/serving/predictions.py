"""A prediction on its way through the gateway, and the log that finds it again.

The request path fills one :class:`Prediction` a request and hands it on; everything else about it
(metrics apart) happens on another thread.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from threading import TIMEOUT_MAX
from time import time
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from portico.serving.segments import Segment
    from portico.serving.service import ServedModel
    from portico.serving.tensors import Tensors


class Prediction:
    """One request to one version of a model: what was asked and answered, and how long it took.

    Attributes:
        id: unique among all workers and starts; 12 hex digits of this process and a number.
        at: seconds since the epoch at arrival.
        model: name.
        version: that answers.
        who: name of the identity that asks; empty for nobody.
        inputs: one array an input; None until decoded.
        outputs: what was answered, a tensor each; None where nothing was.
        rows: of this request.
        batch_rows: of the run that answered it, with rows of other requests.
        decode, queue, run, encode: seconds of each stage.
        outcome: ok, or one of :data:`portico.serving.metrics.OUTCOMES`.
        timeout: seconds that the client gives it to come to its turn.
        client: the socket that the request came on, until it is completed; None where unknown.
    """

    __slots__ = (
        "at", "batch_rows", "client", "decode", "encode", "id", "inputs", "model", "outcome",
        "outputs", "queue", "rows", "run", "timeout", "version", "who",
    )  # fmt: skip

    def __init__(self, model: str, version: str, who: str) -> None:
        self.id = next_id()
        self.at = time()
        self.model = model
        self.version = version
        self.who = who
        self.inputs: Tensors | None = None
        self.outputs: Tensors | None = None
        self.rows = 0
        self.batch_rows = 0
        self.decode = self.queue = self.run = self.encode = 0.0
        self.outcome = "ok"
        self.timeout = TIMEOUT_MAX
        self.client: Any = None


Recorder: TypeAlias = "Callable[[Prediction], None]"
"""Takes each completed prediction, at once and without waiting for anything."""

RecorderOf: TypeAlias = "Callable[[ServedModel], Recorder]"
"""Returns what takes the predictions of one version."""


def _ids() -> Callable[[], str]:
    start, count = os.urandom(6).hex(), itertools.count(1)
    return lambda: f"{start}-{next(count):x}"


next_id = _ids()
"""Returns the id of the next prediction of this process."""


def _begin_anew() -> None:
    global next_id  # noqa: PLW0603 a forked worker must not repeat its sibling's ids
    next_id = _ids()


os.register_at_fork(after_in_child=_begin_anew)


@dataclass(frozen=True, slots=True)
class Logged:
    """A prediction as the log holds it, with the members of :class:`Prediction`.

    Attributes:
        durations: seconds of each stage, by its name.
        inputs, outputs: None where there were none, or the model's card keeps them out.
    """

    id: str
    at: float
    model: str
    version: str
    who: str
    outcome: str
    rows: int
    batch_rows: int
    durations: Mapping[str, float]
    inputs: Tensors | None
    outputs: Tensors | None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody who knows better says of a prediction.

    Attributes:
        right: whether the answer was right.
        label: what would have been right, where that was told.
    """

    prediction: str
    right: bool
    label: Any
    who: str
    at: float


class PredictionStore(Protocol):
    """Keeps predictions and feedback."""

    def write(self, segments: Sequence[Segment]) -> None:
        """Write predictions in one transaction."""
        ...

    def find(self, prediction: str) -> Logged | None:
        """Return one prediction by its id."""
        ...

    def last(self, model: str, version: str | None, count: int) -> Iterator[Logged]:
        """Yield answered predictions of a model that kept their inputs, the latest first."""
        ...

    def of_user(self, who: str, count: int) -> Sequence[Logged]:
        """Return what somebody asked, the latest first."""
        ...

    def add_feedback(self, feedback: Feedback) -> None:
        """Keep feedback, in place of what the same person said before; durable."""
        ...

    def feedback_on(self, prediction: str) -> Sequence[Feedback]:
        """Return all feedback on a prediction."""
        ...

    def prune(self, before: float, max_bytes: int) -> int:
        """Remove predictions that are older, and the oldest where the log is larger.

        One caller at a time does it; to the others nothing is there to be done.

        Returns:
            How many were removed.
        """
        ...
