"""The contract of the artefact store, and what the one in a folder promises beyond."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from portico.serving.artefacts import sha256_of
from portico.serving.errors import ArtefactError
from portico.serving.manifest import MANIFEST, Manifest, Source, read_manifest, write_manifest
from portico.storage.artefacts import LocalArtefacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.serving.versions import ArtefactStore

NOWHERE = "0" * 64


def make_version(folder: Path, content: bytes = b"weights", model: str = "churn") -> str:
    """Write a version's folder and return its digest."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "data").mkdir()
    (folder / "data" / "more.bin").write_bytes(content * 2)
    names = ("model.onnx", "data/more.bin")
    manifest = Manifest(
        model=model,
        platform="onnx_onnxv1",
        entry="model.onnx",
        files={name: sha256_of(folder / name) for name in names},
        signature={},
        source=Source(kind="onnx", file="model.onnx", sha256=sha256_of(folder / "model.onnx")),
    )
    return write_manifest(folder, manifest)


@pytest.fixture
def version(tmp_path: Path) -> tuple[str, Path]:
    folder = tmp_path / "made"
    return make_version(folder), folder


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return LocalArtefacts(tmp_path / "state" / "artefacts")


def test_an_empty_store_holds_nothing(store: ArtefactStore) -> None:
    assert store.digests() == frozenset()
    with pytest.raises(ArtefactError, match="holds no version"):
        store.fetch(NOWHERE)
    store.remove(NOWHERE)


def test_what_is_put_is_fetched(store: ArtefactStore, version: tuple[str, Path]) -> None:
    digest, folder = version
    store.put(digest, folder)
    found = store.fetch(digest)
    assert read_manifest(found, digest) == read_manifest(folder, digest)
    assert (found / "data" / "more.bin").read_bytes() == b"weightsweights"
    assert store.digests() == {digest}


def test_putting_again_changes_nothing(store: ArtefactStore, version: tuple[str, Path]) -> None:
    digest, folder = version
    store.put(digest, folder)
    store.put(digest, folder)
    assert store.digests() == {digest}


def test_what_the_manifest_does_not_name_stays_out(
    store: ArtefactStore, version: tuple[str, Path]
) -> None:
    digest, folder = version
    (folder / "notes.txt").write_text("private")
    store.put(digest, folder)
    assert {path.name for path in store.fetch(digest).iterdir()} == {
        MANIFEST,
        "model.onnx",
        "data",
    }


def test_a_removed_version_is_gone(store: ArtefactStore, version: tuple[str, Path]) -> None:
    digest, folder = version
    store.put(digest, folder)
    store.remove(digest)
    assert store.digests() == frozenset()
    with pytest.raises(ArtefactError):
        store.fetch(digest)
    store.put(digest, folder)
    assert store.fetch(digest)


@pytest.mark.parametrize("name", ["model.onnx", MANIFEST, "data/more.bin"])
def test_a_folder_that_is_not_what_its_digest_says_is_refused(
    store: ArtefactStore, version: tuple[str, Path], name: str
) -> None:
    digest, folder = version
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(ArtefactError, match="changed after the import"):
        store.put(digest, folder)
    assert store.digests() == frozenset()


def test_a_folder_that_lacks_a_file_is_refused(
    store: ArtefactStore, version: tuple[str, Path]
) -> None:
    digest, folder = version
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtefactError, match=r"'model\.onnx' of the version is missing"):
        store.put(digest, folder)
    assert store.digests() == frozenset()


@pytest.mark.parametrize("digest", ["", "..", "../../etc", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_names_no_folder(store: ArtefactStore, digest: str) -> None:
    for ask in (store.fetch, store.remove, lambda name: store.put(name, Path("/nowhere"))):
        with pytest.raises(ArtefactError, match="is no digest"):
            ask(digest)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", ""])
def test_no_name_leads_out_of_the_folder(store: ArtefactStore, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(b"x")
    outside = folder / name
    files = {name: sha256_of(outside) if outside.is_file() else "0" * 64}
    source = Source(kind="onnx", file="m", sha256="0" * 64)
    digest = write_manifest(
        folder,
        Manifest(model="m", platform="p", entry="e", files=files, signature={}, source=source),
    )
    with pytest.raises(ArtefactError):
        store.put(digest, folder)
    assert store.digests() == frozenset()


def test_several_who_put_one_version_at_once_all_succeed(
    store: ArtefactStore, version: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = version
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.put(digest, folder), range(8)))
    assert store.digests() == {digest}
    read_manifest(store.fetch(digest), digest)


def test_everything_is_its_owners_alone(version: tuple[str, Path], tmp_path: Path) -> None:
    digest, folder = version
    top = tmp_path / "state" / "artefacts"
    LocalArtefacts(top).put(digest, folder)
    for path in [top, *top.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_link_is_not_followed(version: tuple[str, Path], tmp_path: Path) -> None:
    digest, folder = version
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    store = LocalArtefacts(tmp_path / "artefacts")
    with pytest.raises(ArtefactError):
        store.put(digest, folder)
    assert list((tmp_path / "artefacts").iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from portico.storage import artefacts

sync, count = os.fsync, 0
def killed(descriptor):
    global count
    count += 1
    if count == int(sys.argv[4]):
        print("there", flush=True)
        sys.stdin.read()
    sync(descriptor)
os.fsync = killed
artefacts.LocalArtefacts(Path(sys.argv[1])).put(sys.argv[2], Path(sys.argv[3]))
print("done", flush=True)
"""


@pytest.mark.parametrize("step", range(1, 7))
def test_a_put_that_is_killed_leaves_all_or_nothing(
    version: tuple[str, Path], tmp_path: Path, step: int
) -> None:
    """Killed before each time something is made durable: three files, two folders, the rename."""
    digest, folder = version
    top = tmp_path / "artefacts"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, top, digest, folder, str(step)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        store = LocalArtefacts(top)
        store.sweep()
        written = list(top.iterdir())
        assert len(written) == 1, "a sweep must leave what is being written"
        process.send_signal(signal.SIGKILL)
    is_there = step == 6
    assert store.digests() == ({digest} if is_there else frozenset())
    store.sweep()
    assert len(list(top.iterdir())) == is_there
    store.put(digest, folder)
    read_manifest(store.fetch(digest), digest)


def test_the_next_put_sweeps_what_was_left(version: tuple[str, Path], tmp_path: Path) -> None:
    digest, folder = version
    left = tmp_path / "artefacts" / ".new-dead"
    left.mkdir(parents=True)
    (left / "big.bin").write_bytes(b"x")
    LocalArtefacts(tmp_path / "artefacts").put(digest, folder)
    assert not left.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_and_nothing_stays(small_disk: Path, tmp_path: Path) -> None:
    small = make_version(tmp_path / "small", b"s" * 1000)
    large = make_version(tmp_path / "large", b"l" * 500_000)
    store = LocalArtefacts(small_disk / "artefacts")
    store.put(small, tmp_path / "small")
    with pytest.raises(ArtefactError, match="no space left"):
        store.put(large, tmp_path / "large")
    assert [path.name for path in (small_disk / "artefacts").iterdir()] == [small]
    read_manifest(store.fetch(small), small)


def test_a_folder_that_cannot_be_written_is_told_without_its_path(
    version: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = version
    (tmp_path / "artefacts").write_text("a file is in the way")
    store = LocalArtefacts(tmp_path / "artefacts")
    with pytest.raises(ArtefactError, match="artefact store") as caught:
        store.put(digest, folder)
    assert str(tmp_path) not in caught.value.message
