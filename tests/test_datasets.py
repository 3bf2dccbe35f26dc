"""Data sets: folders that are decoded once, and sets that are fetched; no network.

A server on this machine plays the public ones, with small files of the same form.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_lit.datasets as datasets
import ddpm_lit.evaluation as evaluation
from ddpm_lit import DataConfig, Dataset, open_data
from ddpm_lit.data import load_digits, to_model_range
from ddpm_lit.datasets import (
    DOWNLOADS,
    check_lost,
    decode_pictures,
    identity_of,
    label_by_folder,
    open_folder,
    read_cifar10,
    read_idx,
)
from ddpm_lit.downloads import data_cache, fetch
from ddpm_lit.evaluation import inception_weights
from ddpm_lit.images import Plan, list_pictures, plan_reading

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("DDPM_LIT_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six pictures in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(PICTURES):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def of(folder: Path, **changes) -> DataConfig:
    return DataConfig(data=f"folder:{folder}", **changes)


# ---------------------------------------------------------------- a folder


def test_a_folder_is_decoded_once_and_mapped(photos, cache, capsys):
    data = open_data(of(photos))
    assert isinstance(data, Dataset) and data.name == "photos" and data.cond == {}
    assert np.array_equal(data.images.permute(0, 2, 3, 1).numpy(), PICTURES)
    said = capsys.readouterr()
    (place,) = (cache / "folders").iterdir()
    assert said.out == "" and said.err == (
        f"decoded 6 pictures to 8 x 8, kept in {place} (0.0 MB)\n"
    )
    again = open_data(of(photos))
    assert capsys.readouterr().err == "", "it was decoded a second time"
    assert torch.equal(again.images, data.images) and again.identity == data.identity
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert f"{place}/pictures.npy" in maps.read_text(), "it is not mapped"
    again.images[0] = 0  # nobody should, and nobody else would see it
    assert torch.equal(open_data(of(photos)).images, data.images)
    found, cond = data[torch.tensor([5, 0])]
    assert torch.equal(found, to_model_range(data.images[[5, 0]])) and cond == {}
    assert len(data) == 6 and data.shape == (3, 8, 8)


def test_what_determines_the_pixels_makes_it_decode_again(photos, capsys):
    first = open_data(of(photos))
    other = [of(photos, size=4), of(photos, size=4, crop=False)]
    other += [of(photos, colours="grey"), of(photos, background="black")]
    for config in other:
        capsys.readouterr()
        open_data(config)
        assert "decoded 6" in capsys.readouterr().err
    for config in (of(photos, flips=True), of(photos, strict=True)):
        assert open_data(config).identity == first.identity
        assert capsys.readouterr().err == ""


def test_another_picture_of_the_same_size_and_time_is_noticed(tmp_path):
    folder = tmp_path / "bmp"
    folder.mkdir()
    path = folder / "a.bmp"
    Image.fromarray(PICTURES[0]).save(path)
    before, stamp = open_data(of(folder)), path.stat()
    time.sleep(0.02)
    Image.fromarray(PICTURES[1]).save(path)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert open_data(of(folder)).identity != before.identity


def test_the_identity_is_that_of_the_content(photos, tmp_path, capsys):
    before = open_data(of(photos))
    assert before.identity == identity_of(before.images, before.cond)
    moved = photos.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    after = open_data(of(moved))
    assert after.identity == before.identity and after.name == "elsewhere"
    assert capsys.readouterr().err == "", "a folder that was only moved is decoded"
    (moved / "5.png").unlink()
    assert open_data(of(moved)).identity != before.identity
    labels = torch.zeros(2, 6, dtype=torch.int64)
    labels[1, 0] = 1
    several = {identity_of(before.images, {"label": each}) for each in labels}
    assert len({before.identity, *several}) == 3, "labels do not count"


def test_a_set_is_taken_apart_by_index():
    data = Dataset(torch.zeros(4, 1, 2, 3), {"label": torch.arange(4)}, "a", "b")
    pictures, cond = data[torch.tensor([3, 1])]
    assert pictures.shape == (2, 1, 2, 3) and cond["label"].tolist() == [3, 1]
    assert len(data) == 4 and data.shape == (1, 2, 3)


def test_pictures_are_labelled_by_sub_folder(tmp_path):
    for name in ("b/0.png", "a/1.png", "a/deep/2.png", "3.png", "b/4.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PICTURES[int(path.stem)]).save(path)
    data = open_data(of(tmp_path / "set"))
    # In the order of the names: 3, a/1, a/deep/2, b/0, b/4.
    assert data.cond["label"].tolist() == [0, 1, 2, 3, 3]
    assert data.cond["label"].dtype == torch.int64
    assert np.array_equal(data.images[3].permute(1, 2, 0).numpy(), PICTURES[0])


def test_labels_of_many_folders_take_no_time():
    names = [f"{i // 20:05d}/{i}.png" for i in range(200_000)]
    started = time.perf_counter()
    classes, labels = label_by_folder(names)
    assert time.perf_counter() - started < 2
    assert len(classes) == 10_000 and labels[-1] == 9_999
    assert label_by_folder(["a.png", "b.png"]) == ([], [])


def test_the_user_folder_and_paths_as_people_write_them(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos.parent))
    assert len(open_data(DataConfig(data="folder:~/photos"))) == 6
    monkeypatch.chdir(photos)
    assert open_data(DataConfig(data="folder:.")).name == "photos"
    with pytest.raises(ValueError, match=f"write folder:{photos}"):
        open_data(DataConfig(data=str(photos)))


def damage(folder: Path) -> None:
    """Four files that cannot be read."""
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "2.png").write_bytes(b"")
    (folder / "6.jpg").write_text("Dear all,")
    (folder / "7.png").symlink_to(folder / "nothing")


def test_unread_files_are_told_in_one_line(photos, capsys):
    damage(photos)
    data = open_data(of(photos))
    assert np.array_equal(data.images.permute(0, 2, 3, 1), PICTURES[[0, 3, 4, 5]])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("decoded 4 pictures")
    assert lines[1].startswith("4 of 8 files cannot be read and are left out: ")
    assert "2.png (not a picture" in lines[1] and lines[1].endswith(" and 1 more")


@pytest.mark.parametrize("kept", [False, True])
def test_strict_reading_stops_at_the_first(photos, kept):
    damage(photos)
    if kept:
        open_data(of(photos))
    with pytest.raises(ValueError, match=r"\.png cannot be read: "):
        open_data(of(photos, strict=True))


def test_a_file_that_is_cut_off_is_found_when_it_is_read(photos, cache):
    whole = (photos / "5.png").read_bytes()
    (photos / "5.png").write_bytes(whole[:-40])
    assert len(open_data(of(photos))) == 5
    with pytest.raises(ValueError, match=r"5\.png cannot be read: "):
        open_data(of(photos, strict=True))
    assert not list(cache.rglob("*.partial"))


def test_nothing_to_read_is_an_error(tmp_path):
    folder = tmp_path / "none"
    with pytest.raises(OSError, match="none is not a folder"):
        open_data(of(folder))
    folder.mkdir()
    with pytest.raises(ValueError, match="no pictures in"):
        open_data(of(folder))
    (folder / "a.png").touch()
    (folder / "b.png").touch()
    with pytest.raises(ValueError, match=r"a\.png cannot be read: .*nor can 1 more"):
        open_data(of(folder))
    check_lost([], strict=True)


def test_turned_pictures_of_another_shape_are_found(tmp_path):
    """Their headers agree, up to the order of width and height."""
    folder = tmp_path / "set"
    folder.mkdir()
    Image.fromarray(PICTURES[0, :4]).save(folder / "a.png")
    Image.fromarray(PICTURES[0, :, :4]).save(folder / "b.png")
    with pytest.raises(
        ValueError, match=r"a.png has 8 x 4 .* b.png has 4 x 8; .*--size"
    ):
        open_data(of(folder))
    upright = Image.Exif()
    upright[0x0112] = 6
    Image.fromarray(PICTURES[0, :, :4]).save(folder / "b.png", exif=upright)
    assert open_data(of(folder)).shape == (3, 4, 8)


def test_a_run_below_the_folder_is_left_out(photos, capsys):
    (photos / "run" / "samples").mkdir(parents=True)
    (photos / "run" / "recipe.json").write_text("{}")
    Image.new("RGB", (99, 99)).save(photos / "run" / "samples" / "a.png")
    assert len(open_data(of(photos))) == 6
    assert "left out, as training runs: run\n" in capsys.readouterr().err


# ---------------------------------------------------------------- the cache


def test_two_processes_at_once_do_not_disturb_each_other(photos, cache):
    code = (
        "import sys; from ddpm_lit import DataConfig, open_data; "
        f"input(); print(open_data(DataConfig(data='folder:{photos}')).identity)"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for each in both:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    outputs = [each.communicate(timeout=120) for each in both]
    assert len({out for out, _ in outputs}) == 1, outputs
    assert outputs[0][0].strip() == open_data(of(photos)).identity
    assert len(list((cache / "folders").iterdir())) == 1


def test_who_comes_second_takes_what_the_first_made(photos, cache, monkeypatch):
    decode = datasets.decode_pictures

    def slowly(*args):
        about = decode(*args)
        if not list((cache / "folders").glob("*[!l]")):  # the other one is quicker
            monkeypatch.setattr(datasets, "decode_pictures", decode)
            open_data(of(photos))
        return about

    monkeypatch.setattr(datasets, "decode_pictures", slowly)
    assert len(open_data(of(photos))) == 6
    assert len(list((cache / "folders").iterdir())) == 1


@pytest.mark.parametrize("left", [-20, 0])  # none is what a power cut may leave
@pytest.mark.parametrize("file", ["pictures.npy", "about.json"])
def test_a_damaged_cache_is_made_again(photos, cache, file, left):
    before = open_data(of(photos))
    identity, pixels = before.identity, before.images.clone()
    (path,) = (cache / "folders").glob(f"*/{file}")
    path.write_bytes(path.read_bytes()[:left])
    after = open_data(of(photos))
    assert after.identity == identity and torch.equal(after.images, pixels)


def test_what_a_killed_process_left_is_removed_after_a_day(photos, cache):
    for name, age in (("old.partial", 90_000), ("young.partial", 10)):
        path = cache / "folders" / name / "pictures.npy"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    open_data(of(photos))
    assert [p.name for p in (cache / "folders").glob("*.partial")] == ["young.partial"]


def test_a_cache_that_cannot_be_written(photos, cache, capsys, monkeypatch):
    cache.write_text("a file")
    data = open_folder(of(photos))
    assert np.array_equal(data.images.permute(0, 2, 3, 1), PICTURES)
    said = capsys.readouterr().err
    assert f"in memory, for {cache / 'folders'} cannot be written: " in said
    assert said.count("\n") == 1
    plan = datasets.plan_reading

    def huge(*args):
        return datasets.replace(plan(*args), nbytes=10**11)

    monkeypatch.setattr(datasets, "plan_reading", huge)
    with pytest.raises(OSError, match=r"DDPM_LIT_DATA .* room for 100\.0 GB"):
        open_folder(of(photos))


def test_a_full_disk_is_noticed_while_it_fills(photos, cache, capsys, monkeypatch):
    decode = datasets.decode_pictures

    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(28, "No space left on device")

    def filling(folder, plan, config, file):
        disk = not isinstance(file, io.BytesIO)
        return decode(folder, plan, config, Full() if disk else file)

    monkeypatch.setattr(datasets, "decode_pictures", filling)
    assert len(open_data(of(photos))) == 6
    assert "in memory" in capsys.readouterr().err
    assert list((cache / "folders").iterdir()) == [], "half of it was left"


def test_decoding_streams_into_a_file(photos):
    config = of(photos, size=4)
    plan = plan_reading(photos, list_pictures(photos), config)
    names = [f"{i}.png" for i in range(6)]
    assert plan == Plan(names, [], "RGB", {}, 6 * 3 * 4 * 4, [])
    file = io.BytesIO()
    about = json.loads(json.dumps(decode_pictures(photos, plan, config, file)))
    file.seek(0)
    pixels = np.load(file)
    assert list(pixels.shape) == about["shape"] == [6, 3, 4, 4]
    assert about["identity"] == identity_of(torch.from_numpy(pixels), {})
    assert plan.nbytes == pixels.nbytes


# ---------------------------------------------------------------- named sets


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
    monkeypatch.setattr(datasets, "DOWNLOADS", known)
    yield folder
    server.shutdown()


def publish(folder: Path, name: str, file: str, content: bytes) -> None:
    """Put a file there, and its sum among the known ones."""
    (folder / file).write_bytes(content)
    datasets.DOWNLOADS[name][1][file] = hashlib.md5(content).hexdigest()


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
        data = open_data(DataConfig(data=name))
        assert data.images.shape == (20, 1, 28, 28) and data.name == name
        assert data.images.dtype == torch.uint8
        assert np.array_equal(data.images[:, 0].numpy(), images)
        assert data.cond["label"].dtype == torch.int64
        assert data.cond["label"].tolist() == labels.tolist()
    assert len(Quiet.asked) == 2, f"asked for {Quiet.asked}"
    assert len(open_data(DataConfig(data=name), "test")) == 4
    assert (data_cache() / name.replace("-", "_")).is_dir()


def test_size_and_colours_hold_for_named_sets(public):
    publish_mnist(public)
    data = open_data(DataConfig(data="mnist", size=32, colours="rgb"))
    assert data.shape == (3, 32, 32) and len(data.cond["label"]) == 20
    assert data.identity != open_data(DataConfig(data="mnist")).identity
    same = open_data(DataConfig(data="mnist", size=28, colours="grey"))
    assert same.identity == open_data(DataConfig(data="mnist")).identity


def test_digits_have_their_own_loader():
    data, held_out = load_digits(), load_digits("test")
    assert data.shape == (1, 8, 8) and len(data) + len(held_out) == 1797
    assert torch.equal(open_data(DataConfig()).images, data.images)


def test_cifar10_is_read_in_order_and_in_colour(public):
    rng = np.random.default_rng(0)
    records = {
        f"data_batch_{i}.bin": rng.integers(0, 10, (2, 3073)).astype(np.uint8)
        for i in range(1, 6)
    }
    records["test_batch.bin"] = rng.integers(0, 10, (3, 3073)).astype(np.uint8)
    content = cifar(dict(reversed(records.items())))
    publish(public, "cifar10", "cifar-10-binary.tar.gz", content)
    data = open_data(DataConfig(data="cifar10"))
    assert data.images.shape == (10, 3, 32, 32)
    first = records["data_batch_1.bin"][0]
    assert data.cond["label"][0] == first[0]
    assert data.images[0, 1, 0, 0] == first[1 + 1024], "green is not the second plane"
    assert len(open_data(DataConfig(data="cifar10"), "test")) == 3


def test_another_checksum_is_refused(public):
    publish_mnist(public)
    file = public / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(OSError, match="train-images") as caught:
        open_data(DataConfig(data="mnist"))
    assert "put the file into" in str(caught.value)
    assert not (data_cache() / "mnist" / file.name).exists(), "a wrong file was kept"


def test_without_a_network_it_says_where_to_put_the_file(public):
    with pytest.raises(OSError, match="cannot get http") as caught:
        open_data(DataConfig(data="fashion-mnist"))
    assert str(data_cache() / "fashion_mnist") in str(caught.value)


def test_the_weights_of_inception_are_fetched_once_and_known_by_their_sum(
    public, monkeypatch
):
    def known(content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(evaluation, "INCEPTION_SHA256", sha256)

    address, _ = datasets.DOWNLOADS["mnist"]
    monkeypatch.setattr(evaluation, "INCEPTION", address + "weights.pth")
    (public / "weights.pth").write_bytes(b"weights")
    known(b"weights")
    for _ in range(2):
        path = inception_weights()
        assert path == data_cache() / "inception" / "weights.pth"
        assert path.read_bytes() == b"weights"
    md5 = "md5:" + hashlib.md5(b"weights").hexdigest()
    assert fetch(address + "weights.pth", md5, path.parent) == path
    assert len(Quiet.asked) == 1, f"asked for {Quiet.asked}"
    path.unlink()
    known(b"others")
    with pytest.raises(OSError, match="cannot get http") as caught:
        inception_weights()
    assert "\n" not in str(caught.value) and not path.exists()


def test_unknown_sets_and_splits_are_named(photos):
    with pytest.raises(ValueError, match=r"choose digits, mnist, .* or folder:PATH"):
        open_data(DataConfig(data="imagenet"))
    with pytest.raises(ValueError, match="valid"):
        open_data(DataConfig(data="mnist"), "valid")
    with pytest.raises(ValueError, match="a folder has no split 'test'"):
        open_data(of(photos), "test")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": Path("photos")}, "data = PosixPath"),
        ({"data": ""}, "names nothing"),
        ({"data": "folder: "}, "names nothing"),
        ({"size": 0}, "size = 0"),
        ({"size": "64"}, "size = '64'"),
        ({"size": 64.0}, r"size = 64\.0"),
        ({"size": True}, "size = True"),
        ({"crop": "yes"}, "crop = 'yes'"),
        ({"flips": 1}, "flips = 1"),
        ({"strict": None}, "strict = None"),
        ({"colours": "gray"}, "auto, grey, rgb"),
        ({"colours": 3}, "colours = 3"),
        ({"background": "whitish"}, "background = 'whitish'"),
        ({"background": "#ff000080"}, "background = '#ff000080'"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        DataConfig(**changes)
    assert "\n" not in str(caught.value)


def test_every_option_explains_itself():
    fields = datasets.DataConfig.__dataclass_fields__
    assert list(fields) == [
        "data",
        "size",
        "crop",
        "colours",
        "background",
        "flips",
        "strict",
    ]
    assert all(len(field.metadata["help"]) > 20 for field in fields.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        gzip.compress(b""),
        gzip.compress(b"\0\0\x08\x03"),
        gzip.compress(b"\0\0\x0d\x01\0\0\0\x01\0"),
        idx(np.zeros((2, 3, 4)))[:-9],
        idx(np.zeros((2, 3, 4)))[:12] + b"\xff" * 40,
        b"not compressed at all",
    ],
    # Without names the ids would hold gzip's time of day, another in each worker.
    ids=[
        "empty",
        "no header",
        "half a header",
        "floats",
        "cut off",
        "scrambled",
        "plain",
    ],
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
