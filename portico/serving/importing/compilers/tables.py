"""Tables on their way through a pipeline: blocks of number columns and single text columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from portico.serving.importing.errors import CannotCompile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from portico.serving.importing.compilers.graph import Graph, Value


@dataclass(frozen=True, slots=True)
class Numbers:
    """A matrix of doubles, ``[rows, width]``; a missing number is NaN.

    Attributes:
        is_finite: whether none can be missing or infinite, as with counts.
    """

    value: Value
    width: int
    is_finite: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A column of texts, ``[rows, 1]``; a missing text is the empty one.

    Attributes:
        blank: what stands for a missing text in the original.
    """

    value: Value
    blank: Any = None

    @property
    def width(self) -> int:
        """How many columns it is."""
        return 1


Part: TypeAlias = Numbers | Text


@dataclass(frozen=True, slots=True)
class Table:
    """Columns side by side, in blocks.

    Attributes:
        names: of the columns, where a step picks them by name.
    """

    parts: tuple[Part, ...]
    names: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many columns it has."""
        return sum(part.width for part in self.parts)

    @property
    def is_numbers(self) -> bool:
        """Whether all columns are numbers."""
        return all(isinstance(part, Numbers) for part in self.parts)

    @property
    def is_finite(self) -> bool:
        """Whether no number can be missing or infinite."""
        return all(isinstance(part, Numbers) and part.is_finite for part in self.parts)

    def numbers(self, graph: Graph) -> Value:
        """Return all columns as one matrix of doubles.

        Raises:
            CannotCompile: a column holds text.
        """
        values = []
        for part in self.parts:
            if isinstance(part, Text):
                raise CannotCompile("a step that computes with numbers is given a column of text")
            values.append(part.value)
        return graph.concat(values)

    def scaled(self, graph: Graph, factor: float) -> Table:
        """Return all numbers times a factor."""
        return numbers(graph.add("Mul", self.numbers(graph), factor), self.width)

    def columns(self, graph: Graph) -> list[Part]:
        """Return every column for itself."""
        singles: list[Part] = []
        for part in self.parts:
            if isinstance(part, Text) or part.width == 1:
                singles.append(part)
            else:
                singles += [
                    Numbers(graph.columns(part.value, [i]), 1, part.is_finite)
                    for i in range(part.width)
                ]
        return singles

    def pick(self, graph: Graph, indexes: Sequence[int]) -> Table:
        """Return some columns, in the order of ``indexes``."""
        names = tuple(self.names[i] for i in indexes) if self.names else ()
        if list(indexes) == list(range(self.width)):
            return Table(self.parts, names)
        if len(self.parts) == 1 and isinstance(self.parts[0], Numbers):
            picked = graph.columns(self.parts[0].value, list(indexes))
            return Table((Numbers(picked, len(indexes), self.parts[0].is_finite),), names)
        singles = self.columns(graph)
        return Table(tuple(singles[i] for i in indexes), names)


def numbers(value: Value, width: int, *, is_finite: bool = False) -> Table:
    """Return a table of one block of numbers."""
    return Table((Numbers(value, width, is_finite),))


def side_by_side(tables: Iterable[Table]) -> Table:
    """Join tables of the same rows."""
    return Table(tuple(part for table in tables for part in table.parts))
