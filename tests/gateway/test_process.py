"""What the server process does around the application."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway import process
from gateway.settings import Settings
from portico.storage.first_start import FirstLogin

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def settings(**values: Any) -> Settings:
    return Settings(**values)


@pytest.mark.parametrize(
    ("cores", "workers", "given", "threads"),
    [(16, 2, 0, 4), (16, 4, 0, 2), (2, 2, 0, 1), (1, 8, 0, 1), (16, 2, 7, 7)],
)
def test_the_cores_are_shared_out_among_the_workers(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, given: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert process.model_threads(settings(workers=workers, inference_threads=given)) == threads


def test_numeric_libraries_are_limited_unless_the_operator_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    process.limit_native_threads(settings(inference_threads=3))
    assert [os.environ[name] for name in names] == ["5", "3", "3"]


# The first start.


def prepared(state: Path, times: int = 1) -> subprocess.CompletedProcess[str]:
    """Prepare the state in a process of its own, which forks; and greet."""
    code = (
        "import sys; from pathlib import Path\n"
        "from gateway import process; from gateway.settings import Settings\n"
        "settings = Settings(state=Path(sys.argv[1]))\n"
        f"for _ in range({times}): process.prepare_state(settings)\n"
        "process.greet(settings); print('sqlalchemy' in sys.modules)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, state], capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_the_first_start_makes_a_user_and_shows_the_password_once(tmp_path: Path) -> None:
    first = prepared(tmp_path / "state", times=2).stdout
    assert "Log in as         admin" in first
    password = first.split("with password")[1].split()[0]
    assert len(password) >= 12
    again = prepared(tmp_path / "state").stdout
    assert "Log in" not in again
    assert password not in again
    kept = b"".join(p.read_bytes() for p in (tmp_path / "state").iterdir() if p.is_file())
    assert password.encode() not in kept


def test_the_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    prepared(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_the_database_library_stays_out_of_the_server(tmp_path: Path) -> None:
    assert prepared(tmp_path / "state").stdout.splitlines()[-1] == "False"


def test_a_state_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    done = prepared(tmp_path / "state")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("gateway.settings.SettingsError: state: the folder cannot be prepared: ")


# The greeting.


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("0.0.0.0", "http://127.0.0.1:8000/"),
        ("::", "http://[::1]:8000/"),
        ("::1", "http://[::1]:8000/"),
        ("10.0.0.0", "http://10.0.0.0:8000/"),
        ("models.example", "http://models.example:8000/"),
    ],
)
def test_the_greeting_names_addresses_that_a_browser_can_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, url: str
) -> None:
    monkeypatch.setattr(process, "_first_login", None)
    process.greet(settings(host=host, title="Our models"))
    told = capsys.readouterr().out
    assert f"Our models is at   {url}\n" in told
    assert f"{url}api/docs" in told
    assert "Ctrl-C" in told
    assert "password" not in told


def test_the_greeting_shows_the_login_that_was_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "_first_login", FirstLogin("admin", "pass word"))
    process.greet(settings())
    told = capsys.readouterr().out
    assert "with password     pass word\n" in told
    assert "portico reset-password" in told


# gunicorn's configuration.


def test_gunicorns_configuration_is_found_in_a_checkout() -> None:
    assert process.gunicorn_config() == ROOT / "gunicorn.conf.py"


def configuration(**environment: str) -> dict[str, str]:
    code = (
        "import runpy, sys; c = runpy.run_path(sys.argv[1])\n"
        "for k in sys.argv[2:]: print(k, c[k], sep='=')\n"
    )
    keys = ["bind", "workers", "threads", "graceful_timeout", "wsgi_app", "worker_class",
            "forwarded_allow_ips", "accesslog"]  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PORTICO_")}
    done = subprocess.run(
        [sys.executable, "-c", code, process.gunicorn_config(), *keys],
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_gunicorn_takes_its_values_from_the_settings() -> None:
    told = configuration(
        PORTICO_HOST="::1", PORTICO_PORT="1234", PORTICO_WORKERS="3", PORTICO_THREADS="5",
        PORTICO_GRACEFUL_TIMEOUT="7.9",
    )  # fmt: skip
    assert told["bind"] == "[::1]:1234"
    assert (told["workers"], told["threads"], told["graceful_timeout"]) == ("3", "5", "7")
    assert (told["wsgi_app"], told["worker_class"]) == (
        "gateway.wsgi:application",
        "gateway.worker.GatewayWorker",
    )
    # Nobody's word for where a request comes from, and no second access log.
    assert (told["forwarded_allow_ips"], told["accesslog"]) == ("", "None")


def test_shared_memory_is_asked_for_and_not_supposed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def access(path: str, mode: int) -> bool:
        asked.append(path)
        return False

    monkeypatch.setattr(os, "access", access)
    assert not process.has_shared_memory()
    assert asked == ["/dev/shm"]


def test_the_log_goes_to_stderr_in_the_format_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []

    def configure(stream: Any, as_json: bool | None) -> str:
        given.append((stream, as_json))
        return "sink"

    monkeypatch.setattr("middleware.logging_setup.configure_logging", configure)
    for log_format in ("auto", "json", "console"):
        sink: Callable[..., Any] | str = process.log_sink(settings(log_format=log_format))  # type: ignore[assignment]
        assert sink == "sink"
    assert given == [(sys.stderr, None), (sys.stderr, True), (sys.stderr, False)]
