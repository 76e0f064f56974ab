"""Count and time every request."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from middleware.response import Ending, length_of_whole, watch
from middleware.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from prometheus_client import CollectorRegistry

    from middleware.tally import Add

    Key = tuple[str, str, str, str]

# Seconds. A compiled model answers in one to five milliseconds, a page in tens, a large batch in
# seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
OTHER = "other"
_WHOLE = Ending()
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Series(NamedTuple):
    """The two things to do for one combination of labels."""

    add: Add
    observe: Add


class HTTPMetrics:
    """Keep the three ``portico_http_*`` metrics.

    ``portico_http_requests_total{mount,method,route,status}``,
    ``portico_http_request_duration_seconds{mount,method,route}`` (until the body is closed, so
    streams are timed whole) and ``portico_http_requests_in_progress{mount}``. Every request counts
    exactly once, however it ends: with ``status="500"`` where an exception escaped before an
    answer was begun and ``"499"`` where the client left before.

    A small answer that is there as a whole is counted just before the server sends it. So whoever
    has it finds it counted, even if the worker is killed at that very moment.

    Methods outside the usual seven and requests without ``portico.route`` count as ``other``, and
    so does every route beyond `max_series`, as a mounted application may set anything there.

    Args:
        app: The application to wrap.
        mount_of: Names the mount that will answer. It is asked before the dispatcher has taken the
            path apart, as the gauge counts a request before it is dispatched. Without it requests
            in progress count as ``other``, and the rest under ``portico.mount``.
        registry: Where the metrics are registered; one instance per registry.
        max_series: Bound on the number of label combinations.
    """

    def __init__(
        self,
        app: WSGIApplication,
        mount_of: Callable[[WSGIEnvironment], str] | None = None,
        registry: CollectorRegistry = REGISTRY,
        max_series: int = 2000,
    ) -> None:
        self._app = app
        self._mount_of = mount_of
        self._max_series = max_series
        self._requests = Counter(
            "portico_http_requests_total",
            "Requests answered.",
            ("mount", "method", "route", "status"),
            registry=registry,
        )
        self._durations = Histogram(
            "portico_http_request_duration_seconds",
            "Time from arrival until the last byte was handed over.",
            ("mount", "method", "route"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._in_progress = Gauge(
            "portico_http_requests_in_progress",
            "Requests being answered.",
            ("mount",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        # ``labels()`` costs more than the increment, so its results are kept.
        self._series: dict[Key, _Series] = {}
        self._gauges: dict[str, Add] = {}
        self._tally = Tally.of_process()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        mount = OTHER if self._mount_of is None else self._mount_of(environ)
        timing = _Timing(self, environ, start_response, mount)
        try:
            body = self._app(environ, timing.start)
        except BaseException:
            timing.finish(Ending(failed=True))
            raise
        if length_of_whole(body) is not None:
            timing.finish(_WHOLE)
            return body
        return watch(body, environ, timing.finish)

    def begin(self, mount: str) -> Add:
        """Count a request in progress, and return what adds to that gauge."""
        gauge = self._gauges.get(mount)
        if gauge is None:
            gauge = self._gauges[mount] = self._tally.adder(self._in_progress.labels(mount))
        self._tally.together(gauge, 1.0)
        return gauge

    def end(self, gauge: Add, key: Key, seconds: float) -> None:
        """Count a request that is over.

        Args:
            gauge: What `begin` returned.
            key: Mount, method, route and status line, as the request had them.
            seconds: How long it took.
        """
        series = self._series.get(key)
        if series is None:
            series = self._make_series(key)
        self._tally.together(_count, (gauge, series, seconds))

    def _make_series(self, key: Key) -> _Series:
        """Fold what is not known into ``other``, and keep the children of the metrics."""
        mount, method, route, status = key
        method = method if method in _METHODS else OTHER
        code = _code(status)
        is_full = len(self._series) >= self._max_series
        if is_full:
            route = OTHER
        series = _Series(
            self._tally.adder(self._requests.labels(mount, method, route, code)),
            self._tally.observer(self._durations.labels(mount, method, route)),
        )
        if not is_full:
            self._series[key] = series
        return series


class _Timing:
    """What is remembered of one request until its answer is over."""

    __slots__ = (
        "_begun",
        "_environ",
        "_gauge",
        "_method",
        "_metrics",
        "_mount",
        "_start_response",
        "_status",
    )

    def __init__(
        self,
        metrics: HTTPMetrics,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        mount: str,
    ) -> None:
        self._begun = environ.get("portico.started") or perf_counter()
        self._metrics = metrics
        self._environ = environ
        self._start_response = start_response
        self._mount = mount
        self._method: str = environ["REQUEST_METHOD"]
        self._status: str | None = None
        self._gauge = metrics.begin(mount)

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Note the status and pass it on."""
        if exc_info is None:
            write = self._start_response(status, headers)
        else:
            write = self._start_response(status, headers, exc_info)
        self._status = status
        return write

    def finish(self, ending: Ending) -> None:
        """Count the request."""
        get = self._environ.get
        status = self._status
        if status is None:
            status = "500" if ending.failed else "499"
        key = (
            get("portico.mount") or self._mount,
            self._method,
            get("portico.route") or OTHER,
            status,
        )
        self._metrics.end(self._gauge, key, perf_counter() - self._begun)


def _count(done: tuple[Add, _Series, float]) -> None:
    gauge, series, seconds = done
    gauge(-1.0)
    series.add(1.0)
    series.observe(seconds)


def _code(status: str) -> str:
    """Return the three digits of a status line, ``other`` where it has none."""
    code = status[:3]
    return code if code.isascii() and code.isdecimal() and "100" <= code <= "599" else OTHER
