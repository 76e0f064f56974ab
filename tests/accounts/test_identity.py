from __future__ import annotations

import pytest

from portico.accounts.identity import Identity, Role


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.VIEWER, ["viewer"]),
        (Role.OPERATOR, ["viewer", "operator"]),
        (Role.ADMIN, ["viewer", "operator", "admin"]),
    ],
)
def test_each_role_may_what_the_ones_before_it_may(role: Role, allowed: list[str]) -> None:
    identity = Identity("ada", role)
    assert [name for name in ("viewer", "operator", "admin") if identity.may(name)] == allowed


def test_a_role_that_does_not_exist_is_an_error_not_a_pass() -> None:
    with pytest.raises(ValueError, match="root"):
        Identity("ada", Role.ADMIN).may("root")


def test_an_identity_reads_as_its_name() -> None:
    assert str(Identity("ada", Role.VIEWER)) == "ada"
