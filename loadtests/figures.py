"""Measured values beside their goals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value and its goal.

    Attributes:
        name: what was measured.
        value: in ``unit``.
        unit: of value and goal.
        goal: the bound, None where there is none.
        at_least: whether the value must reach the goal instead of staying below it.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether there is no goal, or it is reached."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print the figures beside their goals."""
    table = Table(title="Figures")
    for heading in ("figure", "value", "goal", ""):
        table.add_column(heading, justify="right" if heading in ("value", "goal") else "left")
    for figure in figures:
        sign = "≥" if figure.at_least else "≤"
        digits = 2 if figure.value < 10 else 1 if figure.value < 100 else 0
        table.add_row(
            figure.name,
            f"{figure.value:.{digits}f} {figure.unit}",
            f"{sign} {figure.goal:g} {figure.unit}" if figure.goal is not None else "",
            "" if figure.goal is None else "met" if figure.is_met else "[bold]missed[/bold]",
        )
    console.print(table)
