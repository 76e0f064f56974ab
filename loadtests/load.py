"""Threads that ask over and over until they are told to stop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Load:
    """Runs `ask_until_stopped` in threads for as long as the block lasts.

    Args:
        threads: at once.
    """

    def __init__(self, threads: int) -> None:
        self.stopped = threading.Event()
        """Is set when the threads have to end."""
        self._threads = [threading.Thread(target=self.ask_until_stopped) for _ in range(threads)]

    def ask_until_stopped(self) -> None:
        """Ask until `stopped` is set; runs in each thread."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start asking."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop asking; what was counted is final afterwards."""
        self.stopped.set()
        for thread in self._threads:
            thread.join(30)
