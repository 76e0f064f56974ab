"""Who is asking, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a user may do; each role may all that the ones before it may.

    ``viewer`` uses models, ``operator`` sees the console, ``admin`` changes things.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may(self, role: str) -> bool:
        """Tell whether this role includes another one.

        Args:
            role: name of the role that is needed.

        Raises:
            ValueError: there is no role of that name.
        """
        return _RANKS[self] >= _RANKS[Role(role)]


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody known by name. Nobody is None."""

    name: str
    role: Role

    def __str__(self) -> str:
        return self.name

    def may(self, role: str) -> bool:
        """Tell whether this identity has a role, or one that includes it.

        Raises:
            ValueError: there is no role of that name.
        """
        return self.role.may(role)
