"""A small PyTorch model as both kinds of archive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path


class Net(torch.nn.Module):
    """Four numbers and a factor to three probabilities and a sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.softmax(self.linear(x), 1), (x * gain).sum(1)


EXAMPLE = (torch.ones(2, 4), torch.ones(2, 1))


def exported(path: Path) -> Path:
    """Write it with ``torch.export``, any number of rows."""
    rows = torch.export.Dim("rows")
    shapes = ({0: rows}, {0: rows})
    torch.export.save(torch.export.export(Net().eval(), EXAMPLE, dynamic_shapes=shapes), path)
    return path


def scripted(path: Path, *, told: bool = True) -> Path:
    """Write it as TorchScript, with or without a word about its inputs."""
    inputs = {"x": ["FP32", [-1, 4]], "gain": ["FP32", [-1, 1]]}
    extra = {"inputs.json": json.dumps(inputs)} if told else {}
    torch.jit.save(torch.jit.trace(Net().eval(), EXAMPLE), path, _extra_files=extra)
    return path
