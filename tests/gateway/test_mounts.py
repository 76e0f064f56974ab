"""The table of mounts: it names the application that really answers, and who may enter it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, create_environ

from apps.shell.site import MountInfo
from gateway.mounts import Mount, MountTable, import_app
from gateway.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

RULES = {"/healthz": "open", "/metrics": "role:operator", "/static/": "open"}


def told(name: str) -> Any:
    """Make an application that answers with its name and where it was called."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        facts = (name, environ["portico.mount"], environ["SCRIPT_NAME"], environ["PATH_INFO"])
        return [repr(facts).encode()]

    return app


def mount(name: str, prefix: str, access: str = "login") -> Mount:
    return Mount(MountInfo(name, prefix, name, access=access), told(name))


def table(*prefixes: str, rules: dict[str, str] | None = None) -> MountTable:
    mounts = [mount(prefix[1:], prefix, f"role:{prefix[1:]}") for prefix in prefixes]
    return MountTable(mount("home", "", "open"), mounts, RULES if rules is None else rules)


def called(app: Any, path: str) -> tuple[str, ...]:
    environ = {**create_environ("/"), "PATH_INFO": path}
    answer: list[bytes] = list(app(environ, lambda *_: None))
    facts: tuple[str, ...] = eval(answer[0])
    return facts


# Which application answers.

SEGMENTS = st.sampled_from(
    ["ui", "api", "shop", "cart", "", ".", "..", "UI", "ü", "a b", "healthz"]
)
PATHS = st.lists(SEGMENTS, max_size=4).map(lambda parts: "/".join(["", *parts])) | st.text(
    alphabet="/ui.%ü ", max_size=8
)
PREFIXES = st.lists(
    st.lists(st.sampled_from(["ui", "api", "shop", "a b", "x"]), min_size=1, max_size=2).map(
        lambda parts: "/" + "/".join(parts)
    ),
    unique=True,
    max_size=4,
)


@given(prefixes=PREFIXES, path=PATHS)
@example(prefixes=["/ui"], path="/ui")
@example(prefixes=["/ui"], path="/ui/")
@example(prefixes=["/ui"], path="//ui")
@example(prefixes=["/ui"], path="ui")
@example(prefixes=["/ui"], path="")
@example(prefixes=["/ui", "/ui/x"], path="/ui/x/y")
def test_the_table_names_the_application_that_the_dispatcher_calls(
    prefixes: Sequence[str], path: str
) -> None:
    mounts = table(*prefixes)
    name, mount_name, script, rest = called(mounts.dispatcher(), path)
    assert mounts.name_of({"PATH_INFO": path}) == name == mount_name
    assert mounts.name_of({"PATH_INFO": path}) == name, "asked again, it says something else"
    assert script + rest == path
    assert mounts.rule_of(path) == RULES.get(
        path,
        "open" if name == "home" or path.startswith("/static/") else f"role:{name}",
    )


def test_the_dispatcher_is_werkzeugs() -> None:
    assert isinstance(table("/ui").dispatcher(), DispatcherMiddleware)


def test_a_prefix_may_hold_letters_of_any_language() -> None:
    """WSGI carries the path's bytes as Latin-1 (PEP 3333, "Unicode Issues")."""
    mounts = table("/größe")
    client = Client(mounts.dispatcher())
    assert "größe" in client.get("/größe/x").text
    environ = create_environ("/größe/x")
    assert mounts.name_of(environ) == "größe"
    assert mounts.rule_of(environ["PATH_INFO"]) == "role:größe"


def test_a_missing_path_is_the_front_page() -> None:
    assert table("/ui").name_of({}) == "home"


def test_paths_from_outside_do_not_pile_up() -> None:
    mounts = table("/ui")
    for number in range(10_000):
        mounts.rule_of(f"/ui/{number}")
    assert len(mounts._known) <= 4096
    assert mounts.rule_of("/ui/1") == "role:ui"


# Who may enter.


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/", "open"),
        ("/ui", "role:ui"),
        ("/ui/x", "role:ui"),
        ("/healthz", "open"),
        ("/metrics", "role:operator"),
        ("/metrics/", "open"),
        ("/static/css/x.css", "open"),
        ("/ui/static/x.css", "role:ui"),
        ("/ui/healthz", "role:ui"),
    ],
)
def test_the_rule_of_a_path_goes_before_that_of_its_mount(path: str, rule: str) -> None:
    assert table("/ui").rule_of(path) == rule


def test_a_rule_of_all_below_a_path_leaves_the_path_itself_alone() -> None:
    mounts = table("/ui", rules={"/ui/open/": "open"})
    assert mounts.rule_of("/ui/open/x") == "open"
    assert mounts.rule_of("/ui/open/") == "open"
    assert mounts.rule_of("/ui/open") == "role:ui"
    assert mounts.rule_of("/ui/opened") == "role:ui"


# Importing.


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    return write


def refusal(path: str) -> str:
    with pytest.raises(SettingsError) as caught:
        import_app(path)
    return str(caught.value)


def test_a_callable_is_imported_by_its_path(module: Callable[[str, str], None]) -> None:
    module("mount_good", "class site:\n    app = print\ndef application(e, s): return []\n")
    assert import_app("mount_good:application")({}, print) == []  # type: ignore[arg-type]
    assert import_app("mount_good:site.app") is print  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("", "app", "AttributeError: .*no attribute 'app'"),
        ("app = 5", "app", "is a int, no WSGI callable"),
        ("app = 5", "app.real.nothing", "AttributeError"),
        ("import nothing_of_that_name", "app", "ModuleNotFoundError: .*nothing_of_that_name"),
        ("1 / 0", "app", "ZeroDivisionError"),
        ("def (", "app", "SyntaxError"),
        ("import sys; sys.exit(3)", "app", "SystemExit: 3"),
        ("raise ValueError('one\\ntwo')", "app", "ValueError: one two"),
    ],
)
def test_what_cannot_be_imported_is_named_with_the_reason(
    module: Callable[[str, str], None], text: str, name: str, reason: str
) -> None:
    import re

    module(f"mount_{abs(hash((text, name)))}", text)
    path = f"mount_{abs(hash((text, name)))}:{name}"
    message = refusal(path)
    assert message.startswith(f"mounts: '{path}' ")
    assert re.search(reason, message), message
    assert "\n" not in message


def test_a_module_that_is_not_there_is_named() -> None:
    assert "No module named 'nothing_there'" in refusal("nothing_there:app")
    assert "cannot be imported" in refusal(".:app")
