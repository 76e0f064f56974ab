"""Fill a models folder with demo models; what is there already is left as it is."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from portico.demos import digits, tables
from portico.serving.artefacts import CARD_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portico.demos.recipe import Recipe

RECIPES: Final = (*tables.RECIPES, digits.RECIPE)
"""The demo models, in the order of training."""

_MARK: Final = ".recipe"
"""File in a demo's folder that says which recipe made it."""

_NEEDED: Final = ("scikit-learn", "pandas", "joblib", "skl2onnx", "onnx")


def train(folder: Path, report: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Train the demo models that ``folder`` lacks or holds from an older recipe.

    A model appears whole or not at all. A folder of a demo's name that training did not make is
    left alone.

    Args:
        folder: models folder; made if it is missing.
        report: is told one line a model.

    Returns:
        The artefacts written, for those of :func:`pickles` to be allowed to execute code.

    Raises:
        ModuleNotFoundError: scikit-learn or a converter is not installed.
        OSError: the folder cannot be written.
    """
    stamp = _stamp()
    folder.mkdir(parents=True, exist_ok=True)
    return [path for recipe in RECIPES if (path := _train(recipe, folder, stamp, report))]


def pickles(folder: Path) -> list[Path]:
    """Return the artefacts of demo models in ``folder`` that execute code when opened."""
    demos = [recipe for recipe in RECIPES if (folder / recipe.name / _MARK).is_file()]
    return [_artefact(folder, recipe) for recipe in demos if recipe.is_pickle]


def _artefact(folder: Path, recipe: Recipe) -> Path:
    return folder / recipe.name / "1" / recipe.file


def _stamp() -> str:
    """Return what besides the recipe decides the bytes of a model: the versions used."""
    try:
        return " ".join(f"{name} {version(name)}" for name in _NEEDED)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"training the demo models needs {error.name}: pip install 'portico[sklearn]'",
            name=error.name,
        ) from error


def _train(recipe: Recipe, folder: Path, stamp: str, report: Callable[[str], None]) -> Path | None:
    home, mark = folder / recipe.name, f"recipe {recipe.version} {stamp}\n"
    if home.exists() and not (home / _MARK).is_file():
        report(f"{recipe.name}: left alone, the folder there is no demo model")
        return None
    if home.exists() and (home / _MARK).read_text("utf-8") == mark:
        report(f"{recipe.name}: is there already")
        return None
    begin = time.perf_counter()
    with _replacing(home) as work:
        (work / "1").mkdir()
        recipe.build(work, work / "1" / recipe.file)
        with as_file(files("portico.demos") / "cards" / f"{recipe.name}.toml") as card:
            shutil.copyfile(card, work / CARD_NAME)
        (work / _MARK).write_text(mark, "utf-8")
    report(f"{recipe.name}: trained in {time.perf_counter() - begin:.1f} s")
    return _artefact(folder, recipe)


@contextlib.contextmanager
def _replacing(home: Path) -> Iterator[Path]:
    """Give a folder to work in that takes the place of ``home`` when the work is done.

    Its name starts with a dot, which a catalogue of models passes over.
    """
    room = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}-"))
    try:
        work = room / "new"
        work.mkdir()
        yield work
        with contextlib.suppress(FileNotFoundError):
            home.rename(room / "old")
        work.rename(home)
    finally:
        shutil.rmtree(room, ignore_errors=True)
