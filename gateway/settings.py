"""The settings: from ``portico.toml`` and ``PORTICO_...`` in the environment, read once.

The environment wins over the file. An unknown key or a wrong value stops the start with a
:class:`SettingsError` that names the key and what would be right.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from portico.storage.opening import database_url

PREFIX = "PORTICO_"
"""Begins the name of each setting's environment variable."""

CONFIG_VARIABLE = "PORTICO_CONFIG"
"""Names the settings file, where it is not ``portico.toml`` in the working directory."""

BUILTIN_PREFIXES = (
    "/ui", "/api", "/v2", "/admin", "/account", "/static", "/metrics", "/healthz", "/readyz",
)  # fmt: skip
"""Paths that Portico answers itself."""

_IN_URLS_ONLY = re.compile(r"[?#%\\\x00-\x1f\x7f]")
"""What stands in URLs but never in the path that an application is given."""

_DATABASES: Final = ("postgresql", "postgres", "postgresql+psycopg")

ACCESS_PATTERN = r"^(open|login|role:(viewer|operator|admin))$"


class SettingsError(Exception):
    """The settings cannot be used; the message names each key and what would be right."""


class MountSettings(BaseModel):
    """One application of the user's own, behind a URL prefix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: str = Field(description="URL prefix such as /shop, without a slash at the end.")
    app: str = Field(description="WSGI callable as an import string, module:name.")
    title: str = Field(default="", description="What people call it; the prefix by default.")
    access: str = Field(
        default="login",
        pattern=ACCESS_PATTERN,
        description="Who may enter: open, login or role:viewer, role:operator, role:admin.",
    )

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if not prefix.startswith("/") or prefix == "/":
            raise ValueError(f"'{prefix}' must start with a slash and name a path, such as /shop")
        if prefix.endswith("/"):
            raise ValueError(f"'{prefix}' ends with a slash; write '{prefix.rstrip('/')}'")
        is_plain = not _IN_URLS_ONLY.search(prefix) and "//" not in prefix
        if not is_plain or any(part in (".", "..") for part in prefix.split("/")):
            raise ValueError(f"'{prefix}' must be a plain path, written as it reads")
        if prefix == "/home":
            raise ValueError(
                "'/home' would be called 'home' in logs and metrics, as the front page"
            )
        return prefix

    @field_validator("app")
    @classmethod
    def _check_app(cls, app: str) -> str:
        module, colon, name = app.partition(":")
        if not (colon and module and name):
            raise ValueError(f"'{app}' must read module:name, such as mysite.wsgi:application")
        return app


class AccessSettings(BaseModel):
    """Who may enter what Portico brings.

    ``auto`` is ``open`` while the gateway listens on a loopback address, and ``login`` elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: str = Field(default="auto", description="The home page at /.")
    ui: str = Field(default="auto", description="Forms of the models at /ui/.")
    api: str = Field(default="auto", description="The JSON APIs at /api/ and /v2/.")
    metrics: str = Field(default="auto", description="The scrape at /metrics.")
    admin: str = Field(default="role:operator", description="The console at /admin/; never open.")

    @field_validator("home", "ui", "api", "metrics")
    @classmethod
    def _check(cls, rule: str) -> str:
        known = ("auto", "open", "login", "role:viewer", "role:operator", "role:admin")
        if rule not in known:
            raise ValueError(f"'{rule}' must be one of: {', '.join(known)}")
        return rule

    @field_validator("admin")
    @classmethod
    def _check_admin(cls, rule: str) -> str:
        known = ("role:operator", "role:admin")
        if rule not in known:
            raise ValueError(f"'{rule}' must be one of: {', '.join(known)}")
        return rule


class Settings(BaseSettings):
    """Everything that can be set, with its default, unit and meaning."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    title: str = Field("Portico", description="Name of the site, shown on every page.")
    models: tuple[Path, ...] = Field(
        (), description="Model files, folders of one model, or folders of models."
    )
    state: Path = Field(
        Path(".portico"), description="Folder for the database and what is made at first start."
    )
    database: SecretStr = Field(
        SecretStr(""), description="URL of the database; SQLite in the state folder by default."
    )
    artefacts: SecretStr = Field(
        SecretStr(""), description="URL of the artefact store; in the state folder by default."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    server: Literal["gunicorn", "granian"] = Field(
        default="gunicorn", description="What answers the port; granian is an extra, and faster."
    )
    workers: int = Field(2, ge=1, le=256, description="Worker processes.")
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Request threads in each worker; 0 is 40 under gunicorn, 2 under granian.",
    )
    graceful_timeout: float = Field(
        30.0, gt=0, description="Seconds that requests in flight get at a stop or reload."
    )
    startup_wait: float = Field(
        30.0,
        ge=0,
        description="Seconds that a new worker waits for its models before it takes requests.",
    )
    health_interval: float = Field(
        10.0, ge=0, description="Seconds between two checks of each model; 0 checks none."
    )
    load_timeout: float = Field(
        120.0, gt=0, description="Seconds that loading a version of the catalogue may take."
    )
    version_idle: float = Field(
        60.0,
        ge=0,
        description="Seconds without a request after which a version without an alias is freed.",
    )
    inference_threads: int = Field(
        0, ge=0, description="Threads of one model run; 0 divides the cores among the workers."
    )
    max_body_bytes: int = Field(
        32 * 1024 * 1024, ge=1, description="Largest request body in bytes; more is 413."
    )
    prediction_log_days: float = Field(
        30.0, gt=0, description="Days after which the prediction log forgets."
    )
    prediction_log_bytes: int = Field(
        1024 * 1024 * 1024,
        ge=0,
        description="Largest prediction log in bytes; beyond it the oldest are forgotten.",
    )
    max_artefact_bytes: int = Field(
        4 * 1024**3, ge=1, description="Largest model file that is imported, in bytes."
    )
    import_seconds: float = Field(
        600.0, gt=0, description="Seconds that opening, compiling and checking a file may take."
    )
    import_memory_bytes: int = Field(
        16 * 1024**3, ge=1, description="Address space in bytes that opening a file may use."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Log lines as JSON or for a terminal; auto looks at the stream."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks whose X-Forwarded-* headers count; unix for a socket.",
    )
    access: AccessSettings = Field(
        AccessSettings(), description="Who may enter each built-in mount."
    )
    mounts: tuple[MountSettings, ...] = Field(
        (), description="WSGI applications of your own, each under a prefix."
    )

    @field_validator("database")
    @classmethod
    def _check_database(cls, database: SecretStr) -> SecretStr:
        # The message must not repeat the URL: a password stands in it.
        url = database.get_secret_value()
        if url and not (url.startswith("sqlite:///") or _is_server(url)):
            raise ValueError(
                "must be a URL such as postgresql://user:password@host/name or "
                "sqlite:////path/to/file.db"
            )
        return database

    @field_validator("artefacts")
    @classmethod
    def _check_artefacts(cls, artefacts: SecretStr) -> SecretStr:
        url = artefacts.get_secret_value()
        if url and not re.match(r"file:///.|(?!file:)[a-z][a-z0-9+.-]*://.", url):
            raise ValueError("must be a URL such as s3://bucket/prefix or file:///path/to/folder")
        return artefacts

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            if proxy != "unix":
                ipaddress.ip_network(proxy)
        return proxies

    @field_validator("mounts")
    @classmethod
    def _check_mounts(cls, mounts: tuple[MountSettings, ...]) -> tuple[MountSettings, ...]:
        taken = list(BUILTIN_PREFIXES)
        for mount in mounts:
            for other in taken:
                if f"{mount.prefix}/".startswith(f"{other}/") or other.startswith(
                    f"{mount.prefix}/"
                ):
                    raise ValueError(f"prefix '{mount.prefix}' overlaps with '{other}'")
            taken.append(mount.prefix)
        return mounts

    @property
    def address(self) -> str:
        """Host and port as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def database_url(self) -> str:
        """Where the database is, as SQLAlchemy writes it; a password may stand in it."""
        return database_url(self.state, self.database.get_secret_value())

    @property
    def artefacts_url(self) -> str:
        """Where the artefact store is, as fsspec writes it; empty for the state folder."""
        return self.artefacts.get_secret_value()

    @property
    def request_threads(self) -> int:
        """How many requests a worker answers at once.

        Our gunicorn worker lets threads rest that are not needed, so there are enough to gather a
        batch for a slow model. granian's compete for the interpreter at every request.
        """
        return self.threads or (40 if self.server == "gunicorn" else 2)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the gateway: no other address, no proxy in front."""
        if self.trusted_proxies:
            return False
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from arguments, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file())


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Args:
        overrides: values that win over environment and file.

    Raises:
        SettingsError: an unknown key, a wrong value, a file that cannot be read.
    """
    file = _config_file()
    if CONFIG_VARIABLE in os.environ and not file.is_file():
        raise SettingsError(f"{CONFIG_VARIABLE}: '{file}' does not exist")
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_problem(e) for e in error.errors())) from None
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None
    except SourceError as error:
        # Its only words about JSON that cannot be parsed: error parsing value for field "..."
        name = PREFIX + str(error).split('"')[1].upper()
        raise SettingsError(f'{name}: must be JSON, a list such as ["one", "two"]') from None


def settings_in_file() -> set[str]:
    """Return the keys that the file sets, such as ``port`` and ``access.ui``."""
    try:
        found = tomllib.loads(_config_file().read_text("utf-8"))
    except OSError:
        return set()
    tables = {name: value for name, value in found.items() if isinstance(value, dict)}
    inner = {f"{name}.{key}" for name, table in tables.items() for key in table}
    return {*found} - {*tables} | inner


def _is_server(url: str) -> bool:
    """Tell whether a URL names a database of a PostgreSQL server."""
    try:
        parts = urlsplit(url)
        # Reading the port checks it, and what stands before it.
        return parts.scheme in _DATABASES and len(parts.path) > 1 and parts.port != 0
    except ValueError:
        return False


def _config_file() -> Path:
    return Path(os.environ.get(CONFIG_VARIABLE, "portico.toml"))


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {CONFIG_VARIABLE}
    inner = {f"{PREFIX}access__{name}".upper() for name in AccessSettings.model_fields}
    for name in os.environ:
        if name.startswith(f"{PREFIX}TEST_") or not name.startswith(PREFIX):
            continue
        if name not in known | inner:
            raise SettingsError(f"{name}: there is no such setting; known: {_listed(known)}")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _problem(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "settings"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "there is no such setting"
        if len(error["loc"]) == 1:
            message += f"; known: {', '.join(Settings.model_fields)}"
    return f"{key}: {message}"
