"""Data sets that are fetched: checksums, the cache, damaged files; no network needed.

A server on this machine plays the public ones, with small files of the same form.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import ddpm_lit.data as data
from ddpm_lit.data import DOWNLOADS, data_cache, load_dataset, read_cifar10, read_idx
from ddpm_lit.recipes import preset
from ddpm_lit.scale import train_at_scale


def idx(array: np.ndarray) -> bytes:
    """A gzipped idx file, as its description says."""
    head = bytes([0, 0, 8, array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(head + sizes + array.astype(np.uint8).tobytes())


def cifar(records: dict[str, np.ndarray]) -> bytes:
    """An archive of CIFAR-10's binary form."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, rows in records.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = rows.nbytes
            archive.addfile(info, io.BytesIO(rows.tobytes()))
    return stream.getvalue()


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *words: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def public(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder that is served as all the public addresses; the cache is empty."""
    folder = tmp_path / "public"
    folder.mkdir()
    Quiet.asked.clear()
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setenv("DDPM_LIT_DATA", str(tmp_path / "cache"))
    known = {name: (address, dict(sums)) for name, (_, sums) in DOWNLOADS.items()}
    monkeypatch.setattr(data, "DOWNLOADS", known)
    yield folder
    server.shutdown()


def publish(folder: Path, name: str, file: str, content: bytes) -> None:
    """Put a file there, and its sum among the known ones."""
    (folder / file).write_bytes(content)
    data.DOWNLOADS[name][1][file] = hashlib.md5(content).hexdigest()


def publish_mnist(folder: Path, name: str = "mnist") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 20, dtype=np.uint8)
    publish(folder, name, "train-images-idx3-ubyte.gz", idx(images))
    publish(folder, name, "train-labels-idx1-ubyte.gz", idx(labels))
    publish(folder, name, "t10k-images-idx3-ubyte.gz", idx(images[:4]))
    publish(folder, name, "t10k-labels-idx1-ubyte.gz", idx(labels[:4]))
    return images, labels


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_set_is_fetched_once_and_then_kept(public, name):
    images, labels = publish_mnist(public, name)
    for _ in range(2):
        found, marks = load_dataset(name)
        assert found.shape == (20, 1, 28, 28) and found.dtype == torch.uint8
        assert np.array_equal(found[:, 0].numpy(), images)
        assert marks.dtype == torch.int64 and marks.tolist() == labels.tolist()
    assert len(Quiet.asked) == 2, f"asked for {Quiet.asked}"
    assert len(load_dataset(name, "test")[0]) == 4
    assert (data_cache() / name.replace("-", "_")).is_dir()


def test_cifar10_is_read_in_order_and_in_colour(public):
    rng = np.random.default_rng(0)
    records = {
        f"data_batch_{i}.bin": rng.integers(0, 10, (2, 3073)).astype(np.uint8)
        for i in range(1, 6)
    }
    records["test_batch.bin"] = rng.integers(0, 10, (3, 3073)).astype(np.uint8)
    content = cifar(dict(reversed(records.items())))
    publish(public, "cifar10", "cifar-10-binary.tar.gz", content)
    images, labels = load_dataset("cifar10")
    assert images.shape == (10, 3, 32, 32)
    first = records["data_batch_1.bin"][0]
    assert labels[0] == first[0]
    assert images[0, 1, 0, 0] == first[1 + 1024], "green is not the second plane"
    assert len(load_dataset("cifar10", "test")[0]) == 3


def test_another_checksum_is_refused(public):
    publish_mnist(public)
    file = public / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(OSError, match="train-images") as caught:
        load_dataset("mnist")
    assert "put the file into" in str(caught.value)
    assert not (data_cache() / "mnist" / file.name).exists(), "a wrong file was kept"


def test_without_a_network_it_says_where_to_put_the_file(public):
    with pytest.raises(OSError, match="cannot get http") as caught:
        load_dataset("fashion-mnist")
    assert str(data_cache() / "fashion_mnist") in str(caught.value)


def test_unknown_sets_and_splits_are_named():
    with pytest.raises(ValueError, match="choose digits, mnist, fashion-mnist"):
        load_dataset("imagenet")
    with pytest.raises(ValueError, match="valid"):
        load_dataset("mnist", "valid")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        gzip.compress(b""),
        gzip.compress(b"\0\0\x08\x03"),
        gzip.compress(b"\0\0\x0d\x01\0\0\0\x01\0"),
        idx(np.zeros((2, 3, 4)))[:-9],
        b"not compressed at all",
    ],
    # Without names the ids would hold gzip's time of day, another in each worker.
    ids=["empty", "no header", "half a header", "floats", "cut off", "plain"],
)
def test_damaged_idx_files_are_named(tmp_path, content):
    path = tmp_path / "some-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="some-idx3-ubyte"):
        read_idx(path)


def test_an_idx_file_may_be_unpacked(tmp_path):
    array = np.arange(12).reshape(3, 4)
    path = tmp_path / "idx"
    path.write_bytes(gzip.decompress(idx(array)))
    assert read_idx(path).tolist() == array.tolist()


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", cifar({}), cifar({"data_batch_1.bin": np.zeros(9)})],
    ids=["empty", "junk", "no records", "half a record"],
)
def test_damaged_archives_are_named(tmp_path, content):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no CIFAR-10 archive"):
        read_cifar10(path)


def test_the_preset_of_a_set_trains_on_it(public, tmp_path):
    publish_mnist(public)
    recipe = preset(
        "mnist",
        out=str(tmp_path / "run"),
        steps=2,
        batch_size=4,
        base_channels=8,
        groups=4,
        T=20,
        device="cpu",
        tensorboard=False,
    )
    assert train_at_scale(recipe, progress=False).shape(1) == (1, 1, 28, 28)
