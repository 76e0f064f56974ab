"""gunicorn's threaded worker without its hand-overs between threads.

``gthread`` lets its main thread wait for connections and hands each request to a pool and back;
under load that costs more than most answers. Here every thread waits for connections itself, on
one epoll object that wakes one thread an event, answers, and waits again (docs/decisions/0008).
Requests are parsed and answered by gunicorn's own code.

Only one of them waits at a time, as long as requests are quick: several threads in one interpreter
hand it to each other at every read, write and model run, which under load costs more than the
requests. As soon as nobody gets on for a few milliseconds, because a model is slow or a client is,
more threads join in; when that is over they rest again.

Connections do not stick: one that was opened before another worker began to serve is given back
after its next answer (``Connection: close``), so that the newcomer gets its share, and a worker
that has more connections than another lets that one take a new one first.
"""

from __future__ import annotations

import select
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

if TYPE_CHECKING:
    import socket

    from gateway.roster import Roster

_ARRIVAL: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
"""One thread is told once that a connection can be read, then it is armed anew."""

_STEPS_BACK: Final = 4
"""How often a worker with more connections lets the others take a new one first."""

_LOOK: Final = 0.002
"""Seconds between two looks at who gets on, while somebody is busy."""

_TURN: Final = 0.02
"""Seconds between two looks while nobody is."""

_CALM: Final = 1.0
"""Seconds without being stuck after which half of the threads are enough."""

_EXPIRY: Final = 1.0
"""Seconds between two looks at what has expired."""


class _RequestThread:
    """One thread that answers: since when it is busy, 0 where it is not, and where it rests."""

    __slots__ = ("busy_since", "rest")

    def __init__(self) -> None:
        self.busy_since = 0.0
        self.rest = threading.Lock()
        self.rest.acquire()


class GatewayWorker(ThreadWorker):  # type: ignore[misc]
    """A worker whose threads wait for connections themselves.

    ``pre_fork`` sets ``roster`` and ``portico_slot``.
    """

    roster: Roster
    portico_slot: int
    _accepting: bool

    def init_process(self) -> None:
        """Prepare this process, and serve until it is told to stop."""
        self._epoll = select.epoll()
        self._idle: dict[int, Any] = {}
        self._open: set[Any] = set()
        self._listeners = {listener.fileno(): listener for listener in self.sockets}
        self._active: set[_RequestThread] = set()
        self._resting: list[_RequestThread] = []
        self._wanted = 1
        self._steps_back = 0
        self._seen: set[float] = set()
        self._looked = self._stuck = 0.0
        self._changing = threading.Lock()
        super().init_process()

    def run(self) -> None:
        """Serve until a signal, then finish what is in flight."""
        self.poller.register(self.method_queue.fileno(), 1, self.method_queue.run_callbacks)
        self.roster.enter(self.portico_slot)
        self.set_accept_enabled(True)
        for number in range(self.cfg.threads):
            mine = _RequestThread()
            self._active.add(mine)
            threading.Thread(
                target=self._serve, args=(mine,), name=f"request-{number}", daemon=True
            ).start()
        expiry = 0.0
        while self.alive:
            self.wait_for_and_dispatch_events(self._mind())
            if time.monotonic() < expiry:
                continue
            expiry = time.monotonic() + _EXPIRY
            self.notify()
            if len(self._open) >= self.worker_connections:
                with self._changing:
                    self.set_accept_enabled(False)
            if not self.is_parent_alive():
                break
            self._close_expired()
        self._finish()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take new connections, or leave them to others."""
        if enabled == self._accepting:
            return
        for descriptor, listener in self._listeners.items():
            if enabled:
                listener.setblocking(False)
                self._epoll.register(descriptor, select.EPOLLIN)
            else:
                self._epoll.unregister(descriptor)
        self._accepting = enabled

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer one request; see gunicorn."""
        if conn.born != self.roster.starts:
            req.force_close()
        return bool(super().handle_request(req, conn))

    def _mind(self) -> float:
        """Let as many threads wait as the requests of the moment need.

        Returns:
            Seconds until the next look.
        """
        now = time.monotonic()
        if self.alive and not self._accepting and len(self._open) < self.worker_connections:
            with self._changing:
                self.set_accept_enabled(True)
        busy = {thread.busy_since for thread in list(self._active)}
        # A look that came late says nothing: on a busy machine the others had no processor either.
        is_stuck = busy == self._seen and 0.0 not in busy and now - self._looked < 2 * _LOOK
        self._seen, self._looked = busy, now
        if is_stuck:
            self._wanted = min(2 * self._wanted, self.cfg.threads)
            self._stuck = now
        elif self._wanted > 1 and now - self._stuck > _CALM:
            self._wanted //= 2
            self._stuck = now
        if len(self._active) < self._wanted:
            with self._changing:
                while self._resting and len(self._active) < self._wanted:
                    thread = self._resting.pop()
                    self._active.add(thread)
                    thread.rest.release()
        return _LOOK if busy != {0.0} else _TURN

    def _serve(self, mine: _RequestThread) -> None:
        poll, active = self._epoll.poll, self._active
        while True:
            if len(active) > self._wanted and self._may_rest(mine):
                mine.rest.acquire()
            try:
                events = poll(-1, 1)
            except (OSError, ValueError):
                return  # Closed: the worker has ended.
            mine.busy_since = time.monotonic()
            for descriptor, _ in events:
                # Whoever takes a connection out of the dictionary has it for himself.
                conn = self._idle.pop(descriptor, None)
                if conn is not None:
                    self._answer(conn)
                elif descriptor in self._listeners:
                    self._accept(self._listeners[descriptor])
            mine.busy_since = 0.0

    def _may_rest(self, mine: _RequestThread) -> bool:
        with self._changing:
            if len(self._active) <= self._wanted:
                return False
            self._active.discard(mine)
            self._resting.append(mine)
            return True

    def _accept(self, listener: socket.socket) -> None:
        if self._steps_back < _STEPS_BACK and self._has_more_than_others():
            with self._changing:
                self._steps_back += 1
                self.set_accept_enabled(False)  # Until the main thread's next look.
            return
        try:
            client, address = listener.accept()
        except OSError:
            return  # Another worker was faster, or the client is gone.
        self._steps_back = 0
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.born = self.roster.starts
        conn.data_ready = True  # It is handled once epoll says so.
        self._open.add(conn)
        self.roster.count(self.portico_slot, len(self._open))
        self._wait_for(conn, self._epoll.register)

    def _has_more_than_others(self) -> bool:
        return bool(self._open) and self.roster.has_less(self.portico_slot, len(self._open))

    def _answer(self, conn: Any) -> None:
        try:
            keep = self.handle(conn)
            # Reading a body may have taken the next request along.
            while keep and conn.parser.unreader.buf.getvalue():
                keep = self.handle(conn)
        except BaseException:
            self._close(conn)
            raise
        if keep:
            self._wait_for(conn, self._epoll.modify)
        else:
            self._close(conn, graceful=True)

    def _wait_for(self, conn: Any, arm: Any) -> None:
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        descriptor = conn.sock.fileno()
        self._idle[descriptor] = conn
        try:
            arm(descriptor, _ARRIVAL)
        except (OSError, ValueError):
            if self._idle.pop(descriptor, None) is conn:
                self._close(conn)

    def _close(self, conn: Any, *, graceful: bool = False) -> None:
        self._open.discard(conn)
        self.roster.count(self.portico_slot, len(self._open))
        with suppress(OSError, ValueError):
            conn.close(graceful=graceful)

    def _close_expired(self) -> None:
        now = time.monotonic()
        for descriptor, conn in list(self._idle.items()):
            if conn.timeout <= now and self._idle.pop(descriptor, None) is conn:
                self._close(conn)

    def _finish(self) -> None:
        """Take no more connections, and answer those that are open while the grace lasts."""
        self.set_accept_enabled(False)
        self.roster.leave(self.portico_slot)
        linger = time.monotonic() + STOP_KEEPALIVE_LINGER
        for conn in list(self._idle.values()):
            conn.timeout = min(conn.timeout, linger)
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while self._open and time.monotonic() < deadline:
            self.notify()
            self.wait_for_and_dispatch_events(self._mind())
            self._close_expired()
        for listener in self.sockets:
            listener.close()
