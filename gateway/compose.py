"""The composition root: every part is made here, and handed to those that need it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, Gauge

from apps import account, admin, api, home, ui
from apps.admin import history_of
from apps.api import oip
from apps.shell.errors import page_renderer, serving_error_response
from apps.shell.site import MountInfo, Site
from apps.ui.about import Evidence
from gateway.console import operator_view
from gateway.mounts import Mount, MountTable, import_app
from gateway.process import model_threads
from middleware.access import Access
from middleware.access_log import AccessLog
from middleware.content_encoding import ContentEncoding
from middleware.errors import ErrorPages
from middleware.forwarded import Forwarded
from middleware.limits import Limits
from middleware.metrics import HTTPMetrics
from middleware.metrics_app import metrics_app
from middleware.request_context import RequestContext
from middleware.tally import Tally
from portico import __version__
from portico.accounts.service import Accounts
from portico.serving.allowance import Allowance
from portico.serving.artefacts import find_artefacts
from portico.serving.catalogue import Catalogue
from portico.serving.drift_watch import DriftWatch
from portico.serving.errors import StorageUnavailable
from portico.serving.follower import Follower
from portico.serving.health import Health
from portico.serving.metrics import DriftMetrics, PredictionMetrics
from portico.serving.recorder import PredictionLog, Retention
from portico.serving.repository import ModelRepository
from portico.serving.shadow import Shadow
from portico.storage.opening import (
    has_catalogue,
    open_accounts,
    open_artefacts,
    open_drift,
    open_predictions,
    open_versions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from prometheus_client import CollectorRegistry

    from apps.admin.history import History
    from gateway.settings import Settings
    from middleware.log_sink import LogSink

LOGIN_PATH: Final = "/account/login"

_DAY: Final = 86400.0


class Gateway:
    """The whole gateway as one WSGI application.

    Args:
        app: middleware and mounts.
        catalogue: the models that it serves.
        predictions: the log of what they were asked.
        followers: what goes on beside the requests, in the order in which it ends.
        history: what the console remembers of the last minutes.
        sink: where log lines go.
    """

    def __init__(
        self,
        app: WSGIApplication,
        catalogue: Catalogue,
        predictions: PredictionLog,
        followers: Sequence[Follower | Health | Shadow],
        history: History,
        sink: LogSink,
    ) -> None:
        self._app = app
        self._predictions = predictions
        self._followers = followers
        self._history = history
        self._sink = sink
        self.catalogue = catalogue

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self._app(environ, start_response)

    def remember(self) -> None:
        """Begin to remember figures for the console, in the process that serves.

        Without it the console begins when it is first looked at.
        """
        self._history.start()

    def close(self) -> None:
        """Free the models and write out what is buffered."""
        for follower in self._followers:
            follower.close()
        self._predictions.close()
        self.catalogue.close()
        self._sink.close()


def create_gateway(
    settings: Settings, sink: LogSink, registry: CollectorRegistry = REGISTRY
) -> Gateway:
    """Make the gateway that the settings describe.

    Args:
        settings: read once, by the caller.
        sink: where log lines go.
        registry: where metrics are registered; one gateway a registry.

    Raises:
        SettingsError: a mount cannot be imported.
        ArtefactError: a path of ``settings.models`` holds no models.
    """
    metrics = PredictionMetrics(registry, Tally.of_process())
    drift = _drift_watch(settings, registry)
    predictions = _prediction_log(settings, metrics, drift)
    catalogue = _catalogue(settings, metrics, predictions)
    shadow = Shadow(catalogue, metrics.shadow)
    accounts = Accounts(lambda: open_accounts(settings.database_url))
    site = _site(settings)
    front = home.create_app(site, catalogue, metrics_app(registry))
    console = admin.create_app(site, catalogue, operator_view(settings, registry))
    render = page_renderer(front)

    def compressible(app: WSGIApplication) -> WSGIApplication:
        # Only where bodies are Portico's own to read: other mounts may want them as they came.
        return ContentEncoding(app, settings.max_body_bytes, render)

    builtin: dict[str, WSGIApplication] = {
        "home": front,
        "ui": ui.create_app(site, catalogue, Evidence(drift.report, shadow.of)),
        "api": compressible(
            api.create_app(site, catalogue, predictions.store, nobody_is_known=settings.is_local)
        ),
        "v2": compressible(oip.create_app(site, catalogue, _repository(settings, catalogue))),
        "admin": console,
        "account": account.create_app(site, accounts),
    }
    table = _mount_table(settings, site, builtin)
    app: WSGIApplication = table.dispatcher()
    # From the inside out; the order of a request is the reverse.
    app = Limits(app, settings.max_body_bytes, render_html=render)
    app = Access(
        app,
        rule_of=table.rule_of,
        identify=accounts.identify,
        login_url=LOGIN_PATH,
        render_html=render,
    )
    app = ErrorPages(app, render, {StorageUnavailable: serving_error_response})
    app = HTTPMetrics(app, table.name_of, registry)
    app = AccessLog(app, sink)
    app = RequestContext(app)
    app = Forwarded(app, settings.trusted_proxies)
    _tell_build(registry)
    follower = _follower(settings, catalogue)
    _load(catalogue, follower, settings.startup_wait)
    health = Health(catalogue, settings.health_interval)
    health.start()
    shadow.start()
    followers = (health, follower, shadow)
    return Gateway(app, catalogue, predictions, followers, history_of(console), sink)


def _load(catalogue: Catalogue, follower: Follower, wait: float) -> None:
    """Load what is at paths and what is in the store, waiting for both together."""
    started = monotonic()
    follower.start()
    catalogue.load(wait)
    follower.wait(wait - (monotonic() - started))


def _follower(settings: Settings, catalogue: Catalogue) -> Follower:
    url = settings.database_url
    return Follower(
        catalogue,
        lambda: open_versions(url),
        lambda: has_catalogue(url),
        idle=settings.version_idle,
        load_timeout=settings.load_timeout,
    )


def _repository(settings: Settings, catalogue: Catalogue) -> ModelRepository:
    return ModelRepository(
        catalogue,
        lambda: open_versions(settings.database_url),
        workers=settings.workers,
        load_timeout=settings.load_timeout,
    )


def _drift_watch(settings: Settings, registry: CollectorRegistry) -> DriftWatch:
    # Opened once, unless it fails.
    open_store = cache(lambda: open_drift(settings.database_url))
    return DriftWatch(open_store, DriftMetrics(registry))


def _prediction_log(
    settings: Settings, metrics: PredictionMetrics, drift: DriftWatch
) -> PredictionLog:
    return PredictionLog(
        lambda: open_predictions(settings.database_url),
        metrics.dropped,
        Retention(settings.prediction_log_days * _DAY, settings.prediction_log_bytes),
        observer=drift,
    )


def _catalogue(
    settings: Settings, metrics: PredictionMetrics, predictions: PredictionLog
) -> Catalogue:
    return Catalogue(
        [artefact for path in settings.models for artefact in find_artefacts(path)],
        Allowance.of(settings.state),
        metrics,
        threads=model_threads(settings),
        concurrency=settings.request_threads,
        store=open_artefacts(settings.artefacts_url, settings.state),
        recorder_of=predictions.recorder,
    )


def _mount_table(settings: Settings, site: Site, builtin: dict[str, WSGIApplication]) -> MountTable:
    own = {mount.prefix: import_app(mount.app) for mount in settings.mounts}
    mounts = [
        Mount(info, builtin[info.name] if info.builtin else own[info.prefix])
        for info in site.mounts
    ]
    return MountTable(mounts[0], mounts[1:], _rules(settings))


def _site(settings: Settings) -> Site:
    own = [_own_info(mount.prefix, mount.title, mount.access) for mount in settings.mounts]
    return Site(settings.title, (*_builtin_infos(settings), *own))


def _builtin_infos(settings: Settings) -> list[MountInfo]:
    """Describe what Portico brings, home first."""
    access = settings.access
    infos = (
        MountInfo("home", "", "Home", "What is mounted and what is served.", access.home),
        MountInfo("ui", "/ui", "Models", "A form for each model.", access.ui),
        MountInfo("api", "/api", "API", "Predictions as JSON, with documentation.", access.api),
        MountInfo("v2", "/v2", "Open Inference Protocol", "Tensors in, tensors out.", access.api),
        MountInfo(
            "admin", "/admin", "Console", "Figures and state for the operator.", access.admin
        ),
        MountInfo("account", "/account", "Account", "Log in and out.", "login"),
    )
    return [replace(info, access=_resolved(info.access, settings)) for info in infos]


def _own_info(prefix: str, title: str, access: str) -> MountInfo:
    name = prefix.strip("/")
    return MountInfo(name, prefix, title or name, access=access, builtin=False)


def _resolved(rule: str, settings: Settings) -> str:
    if rule != "auto":
        return rule
    return "open" if settings.is_local else "login"


def _rules(settings: Settings) -> dict[str, str]:
    """Return the rules of single paths.

    Probes, and logging in and out, are for anybody; the model repository is for operators, even
    where the protocol is open.
    """
    probes = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
    open_paths = (*probes, LOGIN_PATH, "/account/logout")
    return {
        **dict.fromkeys(open_paths, "open"),
        "/static/": "open",
        "/v2/repository/": settings.access.admin,
        "/metrics": _resolved(settings.access.metrics, settings),
    }


def _tell_build(registry: CollectorRegistry) -> None:
    Gauge(
        "portico_build_info",
        "1, with the version that runs.",
        ("version",),
        registry=registry,
        multiprocess_mode="max",
    ).labels(__version__).set(1)
