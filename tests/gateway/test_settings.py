"""The settings: where they come from, who wins, and what a wrong one is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from gateway.settings import (
    BUILTIN_PREFIXES,
    AccessSettings,
    MountSettings,
    Settings,
    SettingsError,
    load_settings,
    settings_in_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts in an empty folder, without a setting in the environment."""
    for name in os.environ:
        if name.startswith("PORTICO_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "portico.toml").write_text(text, "utf-8")
        return tmp_path / "portico.toml"

    return write


def refusal(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value)


def test_without_any_file_there_are_defaults() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 2)
    assert settings.models == settings.mounts == ()
    assert settings.state == Path(".portico")
    assert settings_in_file() == set()


def test_the_file_in_the_working_folder_is_read(toml: Callable[[str], Path]) -> None:
    toml(
        'title = "Größe"\nmodels = ["a", "b"]\n[access]\nui = "login"\n'
        '[[mounts]]\nprefix = "/shop"\napp = "shop.wsgi:app"\naccess = "role:viewer"\n'
    )
    settings = load_settings()
    assert settings.title == "Größe"
    assert settings.models == (Path("a"), Path("b"))
    assert settings.access == AccessSettings(ui="login")
    assert settings.mounts == (
        MountSettings(prefix="/shop", app="shop.wsgi:app", access="role:viewer"),
    )
    assert settings_in_file() == {"title", "models", "access.ui", "mounts"}


def test_another_file_may_be_named(
    toml: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml("port = 1111")
    (tmp_path / "other.toml").write_text("port = 2222")
    monkeypatch.setenv("PORTICO_CONFIG", "other.toml")
    assert load_settings().port == 2222


def test_the_environment_wins_over_the_file_and_arguments_over_both(
    toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml('port = 1111\ntitle = "file"\nhost = "127.0.0.2"')
    monkeypatch.setenv("PORTICO_PORT", "2222")
    monkeypatch.setenv("PORTICO_TITLE", "environment")
    settings = load_settings(title="argument")
    assert (settings.port, settings.title, settings.host) == (2222, "argument", "127.0.0.2")


def test_the_environment_holds_lists_and_inner_settings(
    toml: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml('[access]\nhome = "login"\nui = "login"')
    monkeypatch.setenv("PORTICO_MODELS", '["a", "b c"]')
    monkeypatch.setenv("PORTICO_ACCESS__UI", "open")
    monkeypatch.setenv("PORTICO_MOUNTS", '[{"prefix": "/shop", "app": "shop:app"}]')
    settings = load_settings()
    assert settings.models == (Path("a"), Path("b c"))
    assert (settings.access.home, settings.access.ui) == ("login", "open")
    assert settings.mounts[0].access == "login"


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = load_settings(mounts=[{"prefix": "/shop", "app": "shop:app"}])
    for thing, name in ((settings, "port"), (settings.access, "ui"), (settings.mounts[0], "app")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(thing, name, getattr(thing, name))


# What is refused, and which key the sentence names.


@pytest.mark.parametrize(
    ("text", "key", "right"),
    [
        ("port = 0", "port", "greater than or equal to 1"),
        ("port = 70000", "port", "65535"),
        ('port = "http"', "port", "integer"),
        ("port = 80.5", "port", "integer"),
        ("workers = 0", "workers", "1"),
        ("threads = 1000", "threads", "256"),
        ("graceful_timeout = 0", "graceful_timeout", "greater than 0"),
        ("startup_wait = -1", "startup_wait", "0"),
        ("inference_threads = -1", "inference_threads", "0"),
        ("max_body_bytes = 0", "max_body_bytes", "1"),
        ('log_format = "xml"', "log_format", "'json'"),
        ('models = "iris"', "models", "tuple"),
        ("title = 7", "title", "string"),
        ('trusted_proxies = ["proxy.local"]', "trusted_proxies", "address|network"),
        ('trusted_proxies = ["10.0.0.1/8"]', "trusted_proxies", "host bits"),
        ('[access]\nui = "everybody"', "access.ui", "'everybody' must be one of: auto, open"),
        ('[access]\nadmin = "open"', "access.admin", "role:operator, role:admin"),
        ('[access]\nshop = "open"', "access.shop", "there is no such setting"),
        ('potr = 80\nport = 80', "potr", "there is no such setting; known: title, models"),
        ('[[mounts]]\napp = "a:b"', "mounts.0.prefix", "required"),
        ('[[mounts]]\nprefix = "/x"', "mounts.0.app", "required"),
        ('[[mounts]]\nprefix = "/x"\napp = "a"', "mounts.0.app", "module:name"),
        ('[[mounts]]\nprefix = "/x"\napp = "a:"', "mounts.0.app", "module:name"),
        ('[[mounts]]\nprefix = "/x"\napp = "a:b"\naccess = "auto"', "mounts.0.access", "pattern"),
        ('[[mounts]]\nprefix = "/x"\napp = "a:b"\nurl = "y"', "mounts.0.url", "no such setting"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_key_and_what_is_right(
    toml: Callable[[str], Path], text: str, key: str, right: str
) -> None:
    import re

    toml(text)
    message = refusal()
    assert message.startswith(f"{key}"), message
    assert re.search(right, message), message


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("/shop/", "'/shop/' ends with a slash; write '/shop'"),
        ("shop", "must start with a slash"),
        ("/", "must start with a slash and name a path"),
        ("", "must start with a slash"),
        ("/a//b", "must be a plain path"),
        ("/a/../b", "must be a plain path"),
        ("/./b", "must be a plain path"),
        ("/shop?x=1", "must be a plain path"),
        ("/shop#x", "must be a plain path"),
        ("/my%20shop", "must be a plain path"),
        ("/a\nb", "must be a plain path"),
        ("/home", "would be called 'home' in logs and metrics"),
    ],
)
def test_a_prefix_is_a_plain_path(prefix: str, reason: str) -> None:
    assert reason in refusal(mounts=[{"prefix": prefix, "app": "shop:app"}])


@pytest.mark.parametrize(
    ("prefixes", "pair"),
    [
        (["/shop", "/shop"], ("/shop", "/shop")),
        (["/shop", "/shop/cart"], ("/shop/cart", "/shop")),
        (["/shop/cart", "/shop"], ("/shop", "/shop/cart")),
        *(([prefix], (prefix, prefix)) for prefix in BUILTIN_PREFIXES),
        (["/admin/tools"], ("/admin/tools", "/admin")),
    ],
)
def test_prefixes_may_not_overlap(prefixes: list[str], pair: tuple[str, str]) -> None:
    message = refusal(mounts=[{"prefix": prefix, "app": "shop:app"} for prefix in prefixes])
    assert message.startswith("mounts: ")
    assert all(prefix in message for prefix in pair)


def test_prefixes_that_only_begin_alike_do_not_overlap() -> None:
    prefixes = ["/shop", "/shopping", "/uis", "/apis/v2", "/größe"]
    mounts = [{"prefix": prefix, "app": "shop:app"} for prefix in prefixes]
    assert [mount.prefix for mount in load_settings(mounts=mounts).mounts] == prefixes


def test_all_that_is_wrong_is_told_at_once(toml: Callable[[str], Path]) -> None:
    toml("port = 0\nworkers = 0")
    assert [line.partition(":")[0] for line in refusal().splitlines()] == ["port", "workers"]


def test_an_unknown_variable_is_refused_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORTICO_PROT", "80")
    message = refusal()
    assert message.startswith("PORTICO_PROT: there is no such setting; known: ")
    assert "PORTICO_PORT" in message


@pytest.mark.parametrize("name", ["PORTICO_ACCESS__SHOP", "PORTICO_PORT__X", "PORTICO_HOST__A__B"])
def test_an_unknown_inner_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert "there is no such setting" in refusal()


def test_a_wrong_variable_is_refused_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_PORT", "http")
    assert refusal().startswith("port: ")


@pytest.mark.parametrize("name", ["PORTICO_MODELS", "PORTICO_MOUNTS", "PORTICO_TRUSTED_PROXIES"])
def test_a_list_in_the_environment_that_is_no_json_is_told_how_to_write_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/srv/models")
    message = refusal()
    assert message.startswith(f"{name}: ")
    assert "JSON" in message


def test_a_file_that_is_no_toml_is_named(toml: Callable[[str], Path]) -> None:
    toml("port = ")
    assert refusal().startswith("portico.toml: ")


def test_a_file_in_another_encoding_is_named(toml: Callable[[str], Path]) -> None:
    toml("").write_bytes(b'title = "\xff"')
    assert refusal().startswith("portico.toml: ")


@pytest.mark.parametrize("name", ["gone.toml", "."])
def test_a_named_file_has_to_be_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PORTICO_CONFIG", name)
    assert refusal() == f"PORTICO_CONFIG: '{name}' does not exist"


# What is derived.


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("example.com", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_only_a_loopback_address_is_local(host: str, is_local: bool) -> None:
    assert Settings(host=host).is_local is is_local


def test_behind_a_proxy_nothing_is_local() -> None:
    assert not Settings(host="127.0.0.1", trusted_proxies=("unix",)).is_local


def test_an_address_is_written_as_in_a_url() -> None:
    assert Settings(host="::1", port=80).address == "[::1]:80"
    assert Settings(host="0.0.0.0", port=80).address == "0.0.0.0:80"


# URLs that hold passwords.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite:////var/lib/portico/p.db",
        "postgresql://portico:s3cret@db/portico",
        "postgres://db:5433/portico?sslmode=require",
        "postgresql+psycopg://[::1]/portico",
    ],
)
def test_a_database_is_sqlite_or_postgresql(url: str) -> None:
    settings = load_settings(database=url)
    assert settings.database.get_secret_value() == url
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@db/p",
        "postgresql://u:s3cret@db",
        "postgresql://u:s3cret@db/",
        "postgresql://u:s3cret/x@db/p",
        "postgresql://u:s3cret@db:port/p",
        "sqlite://s3cret",
        "s3cret",
    ],
)
def test_a_database_that_cannot_be_is_refused_without_its_password(url: str) -> None:
    said = refusal(database=url)
    assert said.startswith("database: must be a URL such as postgresql://")
    assert "s3cret" not in said


@pytest.mark.parametrize("url", ["", "s3://bucket/prefix", "file:///srv/models", "memory://m"])
def test_artefacts_lie_behind_a_url(url: str) -> None:
    assert load_settings(artefacts=url).artefacts.get_secret_value() == url


@pytest.mark.parametrize("url", ["s3cret", "/srv/s3cret", "s3://", "://s3cret", "file://s3cret"])
def test_artefacts_that_cannot_be_are_refused_without_repeating_them(url: str) -> None:
    said = refusal(artefacts=url)
    assert said.startswith("artefacts: must be a URL such as s3://")
    assert "s3cret" not in said
