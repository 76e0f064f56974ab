"""Telling whether a client still wants its answer."""

from __future__ import annotations

import socket
from select import POLLIN, poll
from typing import Any


def has_hung_up(connection: Any) -> bool:
    """Tell whether the peer of a connection has closed it.

    What it may have sent meanwhile stays unread. A client that only shuts down its sending side
    counts as gone: none that speaks HTTP does so while it waits for an answer.

    Args:
        connection: the socket that a request came on, or None where the server does not tell it.
            Only plain sockets can be peeked at; of others, such as those of TLS, it is unknown.
    """
    if type(connection) is not socket.socket:
        return False
    try:
        ready = poll()
        ready.register(connection, POLLIN)
        # Asked first, since a socket with a timeout would wait for something to read.
        return bool(ready.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):  # Reset by the peer, or closed on this side.
        return True
