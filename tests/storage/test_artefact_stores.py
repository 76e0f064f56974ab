"""The contract of the artefact store, and what the one in a folder promises beyond."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest

from portico.serving.artefacts import sha256_of
from portico.serving.errors import ArtefactError
from portico.serving.manifest import MANIFEST, Manifest, Source, read_manifest, write_manifest
from portico.storage.artefacts import LocalArtefacts
from portico.storage.opening import open_artefacts
from portico.storage.remote_artefacts import RemoteArtefacts

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


@pytest.fixture(params=["", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtefactStore:
    """Each kind of store: in the state folder, in a folder elsewhere, and behind fsspec."""
    urls = {"": "", "file": f"file://{tmp_path}/else where", "memory": f"memory://{uuid.uuid4()}"}
    return open_artefacts(urls[request.param], tmp_path / "state")


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
    with pytest.raises(ArtefactError, match="no name of a file"):
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


def test_a_link_is_not_followed(
    store: ArtefactStore, version: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = version
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ArtefactError):
        store.put(digest, folder)
    assert store.digests() == frozenset()


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


# Behind fsspec.


@pytest.fixture
def bucket() -> str:
    return f"memory://{uuid.uuid4()}/prefix"


def in_bucket(bucket: str, name: str = "") -> tuple[fsspec.AbstractFileSystem, str]:
    files, root = fsspec.core.url_to_fs(bucket)
    return files, f"{root}/{name}"


def test_what_one_machine_puts_another_fetches(
    bucket: str, version: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = version
    here, there = (RemoteArtefacts(bucket, tmp_path / name) for name in ("here", "there"))
    here.put(digest, folder)
    assert there.digests() == {digest}
    found = there.fetch(digest)
    assert found.parent == tmp_path / "there"
    read_manifest(found, digest)


def test_what_was_fetched_is_there_while_the_store_is_not(
    bucket: str, version: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = version
    RemoteArtefacts(bucket, tmp_path / "cache").put(digest, folder)
    RemoteArtefacts(bucket, tmp_path / "cache").fetch(digest)
    gone = RemoteArtefacts("memory://elsewhere", tmp_path / "cache")
    read_manifest(gone.fetch(digest), digest)


def test_a_changed_file_in_the_cache_is_fetched_anew(
    bucket: str, version: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = version
    store = RemoteArtefacts(bucket, tmp_path / "cache")
    store.put(digest, folder)
    (store.fetch(digest) / "model.onnx").write_bytes(b"other")
    read_manifest(store.fetch(digest), digest)


@pytest.mark.parametrize("name", ["model.onnx", MANIFEST, "data/more.bin"])
def test_what_was_changed_in_the_store_is_not_taken(
    bucket: str, version: tuple[str, Path], tmp_path: Path, name: str
) -> None:
    digest, folder = version
    store = RemoteArtefacts(bucket, tmp_path / "cache")
    store.put(digest, folder)
    files, path = in_bucket(bucket, f"{digest}/{name}")
    files.pipe_file(path, files.cat_file(path) + b" ")
    with pytest.raises(ArtefactError, match="changed after the import"):
        store.fetch(digest)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_an_upload_that_was_cut_off_is_no_version_and_can_be_done_again(
    bucket: str, version: tuple[str, Path], tmp_path: Path
) -> None:
    digest, folder = version
    store = RemoteArtefacts(bucket, tmp_path / "cache")
    files, path = in_bucket(bucket, f"{digest}/model.onnx")
    files.makedirs(path.rpartition("/")[0])
    files.pipe_file(path, b"half of")
    assert store.digests() == frozenset()
    with pytest.raises(ArtefactError, match="holds no version"):
        store.fetch(digest)
    store.put(digest, folder)
    read_manifest(store.fetch(digest), digest)


def test_the_manifest_is_written_last(
    bucket: str, version: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, folder = version
    files, _ = in_bucket(bucket)
    written = []
    put_file = type(files).put_file

    def watched(self: object, source: str, target: str, **more: object) -> None:
        written.append(Path(target).name)
        put_file(self, source, target, **more)

    monkeypatch.setattr(type(files), "put_file", watched)
    RemoteArtefacts(bucket, tmp_path / "cache").put(digest, folder)
    assert sorted(written) == sorted([MANIFEST, "model.onnx", "more.bin"])
    assert written[-1] == MANIFEST


def test_of_several_who_fetch_at_once_one_downloads(
    bucket: str, version: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, folder = version
    RemoteArtefacts(bucket, tmp_path / "cache").put(digest, folder)
    files, _ = in_bucket(bucket)
    read = []
    cat_file = type(files).cat_file

    def watched(self: object, path: str, *rest: object, **more: object) -> bytes:
        read.append(path)
        return bytes(cat_file(self, path, *rest, **more))

    monkeypatch.setattr(type(files), "cat_file", watched)
    stores = [RemoteArtefacts(bucket, tmp_path / "cache") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda store: store.fetch(digest), stores))
    assert set(found) == {tmp_path / "cache" / digest}
    assert len(read) == 1


def test_a_full_disk_of_the_machine_that_fetches_is_told(
    bucket: str, small_disk: Path, tmp_path: Path
) -> None:
    large = make_version(tmp_path / "large", b"l" * 500_000)
    store = RemoteArtefacts(bucket, small_disk / "cache")
    store.put(large, tmp_path / "large")
    with pytest.raises(ArtefactError, match="no space left"):
        store.fetch(large)
    assert [path.name for path in (small_disk / "cache").iterdir() if path.is_dir()] == []


def test_a_missing_backend_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ArtefactError, match="Install s3fs"):
        open_artefacts("s3://bucket/prefix", tmp_path).fetch(NOWHERE)


def test_an_unknown_backend_does_not_repeat_the_url(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot be used") as caught:
        open_artefacts("nosuch://s3cret@host/x", tmp_path).digests()
    assert "s3cret" not in caught.value.message
