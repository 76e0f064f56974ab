"""The small interfaces between serving and what plugs into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from portico.serving.signature import Signature
    from portico.serving.tensors import Tensors


class Runtime(Protocol):
    """Runs one artefact. ``run`` is called from many threads at once."""

    platform: str
    """``<project>_<format>`` as the protocol's model metadata names it."""

    concurrency: int | None
    """Runs at once that make sense, unless ``model.toml`` says otherwise; None for any number.

    One that holds the interpreter while it runs, or starts threads of its own, says 1: what comes
    meanwhile is then run together.
    """

    signature: Signature
    """As the artefact alone tells it, before ``model.toml`` adds to it."""

    def run(self, inputs: Tensors, outputs: tuple[str, ...] | None) -> Tensors:
        """Run the model.

        Args:
            inputs: one array an input, of the signature's datatypes and shapes.
            outputs: names wanted, in this order; None for all.

        Raises:
            ModelRefused: the model does not accept these values.
            ModelFailed: the model raised.
        """
        ...

    def close(self) -> None:
        """Free what the artefact holds. No ``run`` follows."""
        ...
