"""Pickles that do what their author wants when they are opened, and then may give an estimator."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from sklearn.linear_model import LinearRegression

if TYPE_CHECKING:
    from pathlib import Path


class Trick:
    """Evaluates an expression when it is unpickled, and becomes its value."""

    def __init__(self, expression: str) -> None:
        self._expression = expression

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self._expression,)


class Odd(LinearRegression):  # type: ignore[misc]
    """Predicts what nobody else does, so no compiler knows it."""

    def predict(self, X: Any) -> Any:  # noqa: N803 scikit-learn's name
        return super().predict(X) + 1


def running(code: str, estimator: Any = None) -> bytes:
    """Return a pickle that runs statements, and then is the estimator."""
    data = pickle.dumps(estimator)
    return pickle.dumps(Trick(f"(exec({code!r}), __import__('pickle').loads({data!r}))[1]"))


def canary(path: Path, estimator: Any = None) -> bytes:
    """Return a pickle that tells where it was opened, and marks the process that opened it."""
    code = f"""
import os, sys
sys.portico_canary = True
with open({str(path)!r}, "a") as file:
    file.write(f"{{os.getcwd()}} {{os.readlink('/proc/self/ns/pid')}} {{os.getpid()}}\\n")
"""
    return running(code, estimator)
