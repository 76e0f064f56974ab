from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
from prometheus_client import values

from middleware.metrics_app import readable_registry, render_metrics
from middleware.worker_slots import WorkerSlots


def worker(pid=None):
    return SimpleNamespace(pid=pid)


def live_pid():
    return os.getpid()


def test_the_lowest_free_slot_is_given_and_given_again_after_release():
    slots = WorkerSlots()
    workers = [worker() for _ in range(3)]
    for number, one in enumerate(workers):
        assert slots.assign(one) == number
        # The parent process lives, so no slot is freed as vanished.
        one.pid = os.getppid() if number else live_pid()
    slots.release(live_pid())
    assert slots.assign(worker()) == 0


def test_the_slot_of_a_failed_fork_is_free_again():
    slots = WorkerSlots()
    assert slots.assign(worker("[booting]")) == 0
    assert slots.assign(worker()) == 0


def test_the_slot_of_a_worker_that_vanished_is_free_again():
    slots = WorkerSlots()
    gone = worker()
    slots.assign(gone)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone.pid = child.pid
    assert slots.assign(worker()) == 0


def test_a_zombie_keeps_its_slot_until_it_is_reaped():
    slots = WorkerSlots()
    dying = worker()
    slots.assign(dying)
    dying.pid = os.fork()
    if dying.pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, dying.pid, os.WEXITED | os.WNOWAIT)
    assert slots.assign(worker()) == 1
    os.waitpid(dying.pid, 0)


def test_an_arbiter_keeps_its_slots_over_a_reload():
    arbiter = SimpleNamespace()
    assert WorkerSlots.of(arbiter) is WorkerSlots.of(arbiter)


def test_a_worker_knows_its_slot_and_a_stranger_has_none():
    slots = WorkerSlots()
    one = worker()
    slots.assign(one)
    assert slots.slot_of(one) == 0
    with pytest.raises(LookupError):
        slots.slot_of(worker())


GENERATIONS = """
    import os, signal, sys, pathlib
    from types import SimpleNamespace
    from middleware.worker_slots import WorkerSlots

    slots = WorkerSlots()
    directory = pathlib.Path(sys.argv[1])
    (directory / "counter_99.db").write_bytes(b"left by an earlier run")
    slots.prepare(directory)
    from prometheus_client import Counter, Gauge, Histogram

    # Made before the fork, as with preload_app.
    counter = Counter("c_total", "c", ["l"])
    gauge = Gauge("g", "g", multiprocess_mode="livesum")
    histogram = Histogram("h", "h")

    def generation(kill):
        worker = SimpleNamespace(pid=None)
        slot = slots.assign(worker)
        worker.pid = os.fork()
        if worker.pid == 0:
            slots.enter(slot)
            for _ in range(10):
                counter.labels("x").inc()
            gauge.inc()
            histogram.observe(0.5)
            os.kill(os.getpid(), kill)
        os.waitpid(worker.pid, 0)
        slots.release(worker.pid)

    for _ in range(20):
        generation(signal.SIGKILL)
    for file in sys.argv[2:]:
        (directory / file).write_bytes(b"")
    if len(sys.argv) > 2:
        generation(signal.SIGKILL)
    from middleware.metrics_app import metrics_app
    app = metrics_app()
    print(b"".join(app({"REQUEST_METHOD": "GET"}, lambda *_: None)).decode())
    print(sorted(file.name for file in directory.iterdir()))
"""


def run_generations(directory, *broken):
    code = textwrap.dedent(GENERATIONS)
    command = [sys.executable, "-W", "error", "-c", code, str(directory), *broken]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_counts_survive_kill_9_and_files_do_not_pile_up(tmp_path):
    shown = run_generations(tmp_path)
    assert 'c_total{l="x"} 200.0' in shown
    assert "h_count 20.0" in shown
    assert "portico_worker_restarts_total 20.0" in shown
    assert "\ng 1.0" not in shown
    files = shown.splitlines()[-1]
    assert "counter_0.db" in files
    assert "counter_1.db" not in files
    assert "counter_99.db" not in files


def test_a_file_that_was_left_half_made_does_not_break_the_next_worker(tmp_path):
    shown = run_generations(tmp_path, "counter_0.db")
    assert 'c_total{l="x"} 10.0' in shown
    assert "h_count 21.0" in shown


def test_a_process_claims_the_lowest_slot_that_nobody_holds(tmp_path):
    slots = WorkerSlots()
    before = values.ValueClass
    try:
        slots.prepare(tmp_path)
        told, hold = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told[1], bytes([slots.claim()]))
            os.read(hold[0], 1)
            os._exit(0)
        assert os.read(told[0], 1) == b"\x00"
        assert slots.claim() == 1
        os.write(hold[1], b"x")
        os.waitpid(child, 0)
        assert WorkerSlots.claim(slots) == 0
        text = render_metrics(readable_registry(), "")[0].decode()
        assert "portico_worker_restarts_total 1.0" in text
    finally:
        values.ValueClass = before
        if slots._files:
            slots._files.close()
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
