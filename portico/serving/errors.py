"""What can go wrong when a model is served, free of HTTP.

::

    ServingError
    ├── InvalidInput            the request does not fit the model's signature
    │   └── ModelRefused        the model itself refused values that fit its signature
    ├── UnknownModel            no model of that name
    ├── UnknownVersion          the model has no such version
    ├── VersionExists           that number of a model was given before
    ├── VersionInUse            an alias stands on the version
    ├── ModelUnavailable        known, but loading or failed to load
    ├── QueueFull               the model's queue has no room for these rows
    ├── DeadlineExceeded        no turn came within the request's deadline
    ├── Cancelled               the client left before its turn came
    ├── ModelFailed             the model raised on a valid request
    ├── StorageUnavailable      the gateway's own database cannot be used now
    └── ArtefactError           a model file cannot be served
        └── ArtefactNotAllowed  a file that executes code when opened, not allowed by hash

Each class carries a stable ``code`` for programs; the message is a sentence for a person. The
edges of the apps map classes to HTTP statuses.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Problem(NamedTuple):
    """One thing wrong with a request: where it stands and what would be right."""

    where: str
    problem: str


class ServingError(Exception):
    """Root of every failure that serving reports on purpose."""

    code: ClassVar[str] = "serving_error"

    def __init__(self, message: str, details: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidInput(ServingError):
    """The request does not fit the model's signature; ``details`` name each place."""

    code = "invalid_input"

    @classmethod
    def at(cls, where: str, problem: str) -> InvalidInput:
        """Build the error for a single place."""
        return cls(f"{where}: {problem}", (Problem(where, problem),))

    @classmethod
    def of(cls, problems: list[Problem]) -> InvalidInput:
        """Build the error for several places; the first one makes the sentence."""
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return cls(f"{first.where}: {first.problem}{more}", tuple(problems))


class ModelRefused(InvalidInput):
    """The model refused values that fit its signature, such as a category it never saw."""

    code = "model_refused"


class UnknownModel(ServingError):
    """No model of that name is served here."""

    code = "unknown_model"


class UnknownVersion(ServingError):
    """The model is served, but not in that version."""

    code = "unknown_version"


class VersionExists(ServingError):
    """That number of a model was given before; versions never change."""

    code = "version_exists"


class VersionInUse(ServingError):
    """An alias stands on the version, so it cannot be taken out of service."""

    code = "version_in_use"


class ModelUnavailable(ServingError):
    """The model is known but cannot answer: it is loading, or it failed to load."""

    code = "model_unavailable"

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which a new try makes sense; None when it does not."""


class QueueFull(ServingError):
    """The model's bounded queue has no room for the rows of this request."""

    code = "queue_full"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(ServingError):
    """The request waited for its turn as long as it may."""

    code = "deadline_exceeded"


class Cancelled(ServingError):
    """The client left before its turn came, so nobody reads this."""

    code = "cancelled"


class ModelFailed(ServingError):
    """The model raised on a request that was valid; the cause is logged, never shown."""

    code = "model_failed"


class StorageUnavailable(ServingError):
    """The gateway's own database cannot be used now; models go on answering without it."""

    code = "storage_unavailable"
    retry_after: ClassVar[int] = 1
    """Seconds after which a new try makes sense."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """What the database said; for the operator alone, as it may name hosts and users."""


class ArtefactError(ServingError):
    """A model file cannot be served; the message says why and what would be right."""

    code = "artefact_error"


class ArtefactNotAllowed(ArtefactError):
    """The file executes code when it is opened and nobody allowed this very file."""

    code = "artefact_not_allowed"
