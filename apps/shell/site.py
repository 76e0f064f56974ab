"""What every page of the gateway knows: its title and the mounts behind it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MountInfo:
    """One URL prefix and what is behind it.

    Attributes:
        name: short and unique; the value of ``environ["portico.mount"]``.
        prefix: such as ``/shop``; empty for home.
        title: what a person calls it.
        description: a sentence about it.
        access: who may enter, as the settings name it.
        builtin: whether Portico brought it, or the user.
        problem: why it cannot answer; empty when it can.
    """

    name: str
    prefix: str
    title: str
    description: str = ""
    access: str = "open"
    builtin: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """The gateway as a person sees it."""

    title: str = "Portico"
    mounts: tuple[MountInfo, ...] = ()
