"""Picture files as people have them, and files that are written whole."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_lit import DataConfig
from ddpm_lit.images import (
    Header,
    Listing,
    Plan,
    fit_picture,
    in_threads,
    largest_number,
    list_pictures,
    plan_reading,
    read_header,
    read_picture,
    reason_of,
    save_grid,
    save_npz,
    save_pictures,
    to_tensor,
    white_level,
    write_whole,
)
from ddpm_lit.recipes import rgb

RAMP = np.tile(np.linspace(0, 255, 24).round().astype(np.uint8), (16, 1))
SCENE = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], 2)
PHOTO = Image.fromarray(SCENE)


def png(pixels: np.ndarray) -> bytes:
    """A PNG of 16-bit colours (H, W, C), which Pillow does not write."""
    height, width, channels = pixels.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sum_

    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


def read(path: Path, mode: str = "RGB", **changes) -> np.ndarray:
    """The pixels (H, W, C) of one file of a folder of its own."""
    config = DataConfig(data=f"folder:{path.parent}", **changes)
    whites = {}
    if numbers := read_header(path).numbers:
        whites = {numbers: white_level(numbers, largest_number(path))}
    found = read_picture(path, config, mode, whites)
    assert found.dtype == torch.uint8 and found.ndim == 3
    return found.permute(1, 2, 0).numpy()


def plan(folder: Path, **changes) -> Plan:
    config = DataConfig(data=f"folder:{folder}", **changes)
    return plan_reading(folder, list_pictures(folder), config)


def far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


# ---------------------------------------------------------------- one file


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_stand_upright(tmp_path, turn, ending):
    exif = Image.Exif()
    exif[0x0112] = turn
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how it lies in the file
    lying = PHOTO if turn == 1 else PHOTO.transpose(undo[turn])
    path = tmp_path / f"a.{ending}"
    lying.save(path, exif=exif)
    found = read(path)
    assert found.shape == SCENE.shape and far(found, SCENE) < 6


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("RGB", "png"),
        ("RGB", "jpg"),
        ("RGB", "bmp"),
        ("P", "gif"),
        ("P", "png"),
        ("CMYK", "jpg"),
        ("CMYK", "tif"),
        ("YCbCr", "jpg"),
        ("YCbCr", "tif"),
        ("RGBA", "webp"),
        ("RGBX", "tif"),
    ],
)
def test_every_kind_of_colours_gives_the_scene(tmp_path, mode, ending):
    path = tmp_path / f"a.{ending}"
    PHOTO.convert(mode).save(path)
    assert far(read(path), SCENE) < (20 if mode == "P" else 8)  # dithered
    assert plan(tmp_path).mode == "RGB"


@pytest.mark.parametrize(
    ("image", "ending"),
    [
        (Image.fromarray(RAMP), "png"),
        (Image.fromarray(RAMP), "jpg"),
        (Image.fromarray(RAMP), "gif"),
        (Image.fromarray(RAMP).convert("P"), "png"),
        (Image.fromarray(RAMP).convert("LA"), "png"),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), "png"),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), "tif"),
        (Image.fromarray(RAMP.astype(np.int32) * 257), "tif"),
        (Image.fromarray(RAMP.astype(np.int32)), "tif"),
        (Image.fromarray(RAMP.astype(np.float32)), "tif"),
        (Image.fromarray(RAMP.astype(np.float32) / 255), "tif"),
        (Image.fromarray(RAMP.astype(np.float32) / 2550), "tif"),
    ],
    ids=lambda value: getattr(value, "mode", value),
)
def test_every_kind_of_grey_gives_the_ramp(tmp_path, image, ending):
    path = tmp_path / f"a.{ending}"
    image.save(path)
    found = read(path, "L")
    assert found.shape == (16, 24, 1)
    brightest = found.max()
    assert brightest > 127, "nearly black"
    assert far(found[:, :, 0] * (255 / brightest), RAMP) < 2
    assert plan(tmp_path).mode == "L", "a grey file was taken for a coloured one"
    assert plan(tmp_path, colours="rgb").mode == "RGB"


def test_one_bit_is_black_and_white(tmp_path):
    for ending in ("png", "tif", "pbm"):
        path = tmp_path / f"a.{ending}"
        Image.fromarray(RAMP > 99).save(path)
        assert np.array_equal(read(path, "L")[:, :, 0], np.where(RAMP > 99, 255, 0))
    assert plan(tmp_path).mode == "L"


@pytest.mark.parametrize("level", [0, 7, 40_000])
def test_a_picture_of_one_level_is_read(tmp_path, level):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((4, 4), level, np.uint16)).save(path)
    want = round(255 * level / white_level("16-bit", level))
    assert np.unique(read(path, "L")).tolist() == [want]


def test_what_is_white_is_decided_by_the_folder(tmp_path):
    """A night scene stays dark beside a day scene; 12 bits do not become black."""
    night = np.full((4, 4), 400, np.uint16)
    Image.fromarray(night).save(tmp_path / "night.png")
    Image.fromarray(night * 10).save(tmp_path / "day.png")
    found = plan(tmp_path)
    assert found.whites == {"16-bit": 4095}
    assert found.notes == ["16-bit numbers: 4095 is taken for white"]
    config = DataConfig(data=f"folder:{tmp_path}")
    dark = read_picture(tmp_path / "night.png", config, "L", found.whites)
    assert dark.unique().tolist() == [round(400 / 4095 * 255)]


@pytest.mark.parametrize(
    ("numbers", "largest", "white"),
    [
        ("16-bit", 65_535, 65_535),
        ("16-bit", 33_500, 65_535),
        ("16-bit", 4095, 4095),
        ("16-bit", 3, 3),
        ("16-bit", 1, 1),
        ("16-bit", 0, 1),
        ("32-bit", 2**31 - 1, 2**31 - 1),
        ("float", 1.0000001, 1),
        ("float", 0.2, 0.25),
        ("float", 1e-30, 2**-99),
        ("float", 255.4, 255),
        ("float", 0.0, 1),
    ],
)
def test_white_levels(numbers, largest, white):
    assert white_level(numbers, largest) == white


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "NaN"), (np.inf, "infinity"), (-1.0, "negative")],
)
def test_numbers_that_are_no_brightness_are_refused_by_name(tmp_path, value, words):
    array = RAMP.astype(np.float32) / 255
    Image.fromarray(array).save(tmp_path / "good.tif")
    array[3, 3] = value
    Image.fromarray(array).save(tmp_path / "bad.tif")
    found = plan(tmp_path)
    assert found.names == ["good.tif"]
    (lost,) = found.lost
    assert lost[0] == "bad.tif" and words in lost[1]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_of_colour(tmp_path, channels):
    full = np.full((4, 4, channels), 65_535, np.uint16)
    full[:, :2] = 30_000
    full[:, :, -1] = 65_535
    path = tmp_path / "a.png"
    path.write_bytes(png(full))
    assert read_header(path).numbers == "16-bit colour"
    found = read(path)
    assert found[0, 3].tolist() == [255] * 3 and abs(int(found[0, 0, 0]) - 117) <= 1
    path.write_bytes(png(full // 16))  # 12 bits: nearly black, and nothing tells
    with pytest.raises(ValueError, match="dark half"):
        read(path)


def see_through(mode: str) -> Image.Image:
    """A grey or coloured picture, transparent on the left, where a red is hidden."""
    if mode == "LA":
        image = Image.new("LA", (16, 16), (80, 255))
        image.paste((200, 0), (0, 0, 8, 16))
        return image
    image = Image.new("RGBA", (16, 16), (80, 80, 80, 255))
    image.paste((255, 0, 0, 0), (0, 0, 8, 16))
    if mode != "P":
        return image
    flat = Image.fromarray(np.repeat([[0] * 8 + [1] * 8], 16, 0).astype(np.uint8))
    flat = flat.convert("P")
    flat.putpalette([255, 0, 0, 80, 80, 80])
    return flat


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
@pytest.mark.parametrize("background", ["white", "black", "#206090"])
@pytest.mark.parametrize("size", [None, 4])
def test_hidden_colours_stay_hidden(tmp_path, mode, background, size):
    path, extra = tmp_path / "a.png", {"transparency": 0} if mode == "P" else {}
    image = see_through(mode)
    if mode == "RGB":  # one colour is declared transparent
        image, extra = image.convert("RGB"), {"transparency": (255, 0, 0)}
    image.save(path, **extra)
    found = read(path, background=background, size=size)
    left, right = found[:, : found.shape[1] // 4], found[:, -1]
    assert far(left, np.array(rgb(background))) < 6, "what was hidden is seen"
    assert far(right, 80) < 6


def test_a_coloured_background_makes_transparent_grey_files_coloured(tmp_path):
    see_through("LA").save(tmp_path / "a.png")
    assert plan(tmp_path).mode == "L"
    assert plan(tmp_path, background="#206090").mode == "RGB"


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_of_a_moving_picture_the_first_frame_is_taken(tmp_path, ending):
    frames = [Image.new("RGB", (24, 16), "black")] * 2
    path = tmp_path / f"a.{ending}"
    PHOTO.save(path, save_all=True, append_images=frames)
    assert far(read(path), SCENE) < 12
    found = plan(tmp_path)
    assert found.notes == ["several pictures in 1 of 1 files; the first is taken"]


# ---------------------------------------------------------------- size


def test_the_middle_is_cut_out_or_all_is_squeezed():
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    image = Image.fromarray(wide)
    cut = to_tensor(fit_picture(image, "L", 10, True))
    assert cut.shape == (1, 10, 10) and bool((cut == 200).all())
    squeezed = to_tensor(fit_picture(image, "L", 10, False))
    assert squeezed[0, 5, 0] < 20 and squeezed[0, 5, 5] > 180
    assert to_tensor(fit_picture(image, "RGB", None, True)).shape == (3, 10, 30)


def test_resizing_does_not_skip_pixels():
    """Stripes finer than the new pixels become their mean, not one of the two."""
    fine = np.zeros((256, 256), np.uint8)
    fine[:, ::2] = 255
    small = fit_picture(Image.fromarray(fine), "L", 16, True)
    assert far(np.asarray(small), 127.5) < 3


def test_a_large_jpeg_is_read_quickly_and_well(tmp_path):
    smooth = PHOTO.resize((2400, 1600), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    found = read(tmp_path / "a.jpg", size=32)
    want = np.asarray(fit_picture(smooth, "RGB", 32, True))
    assert found.shape == (32, 32, 3) and far(found, want) < 2


def test_small_pictures_are_enlarged_and_it_is_said(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", size=64).shape == (64, 64, 3)
    assert plan(tmp_path, size=64).notes == ["enlarged to 64 pixels: 1 of 1 pictures"]
    assert plan(tmp_path, size=16).notes == []


def test_different_sizes_name_two_files_and_the_option(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    PHOTO.resize((20, 20)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"a\.png has 24 x 16 .* b\.png .*--size"):
        plan(tmp_path)
    assert len(plan(tmp_path, size=8).names) == 2


# ---------------------------------------------------------------- a folder


def test_what_is_no_picture_is_not_listed(tmp_path):
    for name in (
        "a.PNG",
        "deep/er/b.jpeg",
        ".hidden.png",
        "._a.png",
        ".git/c.png",
        "x/.ipynb_checkpoints/d.png",
        "__MACOSX/a.png",
        "Thumbs.db",
        "notes.txt",
        "run/samples/e.png",
        "run/recipe.json",
        "old/samples.png",
        "old/checkpoint-0000100.safetensors",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    found = list_pictures(tmp_path)
    wanted = ["a.PNG", "deep/er/b.jpeg"]
    assert found == Listing(wanted, found.stamps, ["old", "run"], [])


def test_links_are_followed_and_circles_end(tmp_path):
    outside = tmp_path / "outside"
    folder = tmp_path / "folder"
    (folder / "real").mkdir(parents=True)
    outside.mkdir()
    PHOTO.save(outside / "b.png")
    PHOTO.save(folder / "real" / "a.png")
    (folder / "also").symlink_to(outside, target_is_directory=True)
    (folder / "linked.png").symlink_to(outside / "b.png")
    (folder / "gone.png").symlink_to(outside / "nothing.png")
    (folder / "real" / "up").symlink_to(folder, target_is_directory=True)
    (outside / "back").symlink_to(folder, target_is_directory=True)
    found = list_pictures(folder)
    assert found.names == ["also/b.png", "linked.png", "real/a.png"]
    assert [name for name, _ in found.lost] == ["gone.png"]


def test_a_run_or_a_file_is_no_folder_of_pictures(tmp_path):
    (tmp_path / "recipe.json").touch()
    with pytest.raises(ValueError, match="training run"):
        list_pictures(tmp_path)
    with pytest.raises(OSError, match="is not a folder"):
        list_pictures(tmp_path / "recipe.json")


def test_many_folders_are_listed_quickly(tmp_path):
    for i in range(2000):
        folder = tmp_path / f"{i:04d}"
        folder.mkdir()
        for j in range(3):
            (folder / f"{j}.png").touch()
    started = time.perf_counter()
    assert len(list_pictures(tmp_path).names) == 6000
    assert time.perf_counter() - started < 3


def test_headers_say_what_is_there(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png") == Header((24, 16), False, False, "", 1)


def test_unread_files_are_given_with_a_reason(tmp_path, monkeypatch):
    PHOTO.save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "letter.jpg").write_text("Dear all,")
    PHOTO.resize((90, 90)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    found = plan(tmp_path)
    assert found.names == ["good.png"]
    reasons = dict(found.lost)
    assert reasons["empty.png"] == reasons["letter.jpg"]
    assert reasons["letter.jpg"] == "not a picture that Pillow reads"
    assert "decompression bomb" in reasons["bomb.png"]
    assert str(tmp_path) not in str(found.lost)
    assert reason_of(RuntimeError()) == "RuntimeError"


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_half_a_picture_is_not_read(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for size in (None, 8):
        with pytest.raises((OSError, ValueError, SyntaxError, EOFError)):
            read(path, size=size)


def test_threads_keep_the_order_and_wait_for_who_takes():
    done = []

    def work(name: str) -> str:
        if name == "7":
            raise RuntimeError("seven")
        done.append(name)
        return name * 2

    names = [str(i) for i in range(500)]
    results = in_threads(work, names)
    taken = [next(results) for _ in range(10)]
    assert len(done) <= 64, "all was decoded before the first was taken"
    taken += list(results)
    assert [name for name, _ in taken] == names
    assert all(found == name * 2 for name, found in taken if name != "7")
    assert isinstance(taken[7][1], RuntimeError)


def test_reading_loads_no_torch_for_the_options():
    code = (
        "import sys; from ddpm_lit.recipes import DataConfig; DataConfig(); "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "False", out.stderr


# ---------------------------------------------------------------- out again


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_whole(path, lambda p: p.write_text("one"))
    assert path.read_text() == "one"
    before = os.umask(0o027)
    try:
        write_whole(path, lambda p: p.write_text("two"), sync=False)
    finally:
        os.umask(before)
    assert path.read_text() == "two" and path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path / "deep") == ["a.txt"]


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError(),
        KeyboardInterrupt(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(partial_path: Path) -> None:
        partial_path.write_text("half")
        raise failure

    with pytest.raises(type(failure)) as caught:
        write_whole(path, write)
    if isinstance(failure, OSError):
        assert str(caught.value) == f"cannot write {path}: No space left on device"
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_place_that_takes_no_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.txt", tmp_path / "folder"):
        with pytest.raises(OSError, match="cannot write") as caught:
            write_whole(path, lambda p: p.write_text("x"))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


BYTES = torch.arange(5 * 3 * 4 * 6).remainder(256).to(torch.uint8).reshape(5, 3, 4, 6)


def test_a_sheet_has_gaps_and_every_picture(tmp_path):
    save_grid(BYTES, tmp_path / "a.PNG", columns=2, scale=3)
    sheet = np.asarray(Image.open(tmp_path / "a.PNG"))
    assert sheet.shape == (3 * 14 + 2, 2 * 20 + 2, 3)
    assert (sheet[:2] == 255).all() and (sheet[:, :2] == 255).all()
    assert (sheet[-12:, -20:] == 255).all(), "the place of a sixth is not white"
    assert (sheet[2, 22:25] == BYTES[1, :, 0, 0].numpy()).all()
    save_grid(BYTES[:1, :1], tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").mode == "L"
    assert names(tmp_path) == ["a.PNG", "b.png"]


@pytest.mark.parametrize(
    ("edge", "count", "width"),
    [(8, 64, 274), (8, 1, 36), (64, 64, 1042), (256, 64, 2066), (256, 2, 1030)],
)
def test_sheets_are_neither_tiny_nor_huge(tmp_path, edge, count, width):
    images = torch.zeros(count, 1, edge, edge, dtype=torch.uint8)
    save_grid(images, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").width == width


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: save_grid(BYTES.float(), p / "a.png"), "to_uint8 converts"),
        (lambda p: save_grid(BYTES[0], p / "a.png"), r"\(3, 4, 6\)"),
        (lambda p: save_grid(BYTES[:, :2], p / "a.png"), "C = 1 or 3"),
        (lambda p: save_grid(BYTES[:0], p / "a.png"), "0 images"),
        (lambda p: save_grid(BYTES, p / "a.jpg"), "a .png"),
        (lambda p: save_pictures(BYTES.float(), p / "a"), "to_uint8 converts"),
        (lambda p: save_npz([BYTES.float()], 5, p / "a.npz"), "to_uint8 converts"),
        (lambda p: save_npz([BYTES], 6, p / "a.npz"), "5 images came, not 6"),
        (lambda p: save_npz([BYTES, BYTES], 9, p / "a.npz"), r"not fit into \(9, 4"),
        (lambda p: save_npz([], 0, p / "a.npz"), "not at least one"),
        (
            lambda p: save_npz([BYTES, BYTES[:, :, :2]], 10, p / "a.npz"),
            r"\(5, 2, 6, 3\) does not fit",
        ),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path, call, words):
    with pytest.raises(ValueError, match=words):
        call(tmp_path)
    assert names(tmp_path) == []


def test_pictures_are_written_by_number(tmp_path):
    save_pictures(BYTES[:2], tmp_path / "out", numbers=torch.tensor([7, 12]))
    save_pictures(BYTES[4:, :1], tmp_path / "out")
    assert names(tmp_path / "out") == ["000000.png", "000007.png", "000012.png"]
    again = np.asarray(Image.open(tmp_path / "out" / "000012.png"))
    assert np.array_equal(again, BYTES[1].permute(1, 2, 0).numpy())


def test_an_npz_is_written_in_parts(tmp_path):
    path = tmp_path / "a.npz"
    save_npz((part for part in BYTES.split(2)), 5, path)
    with np.load(path) as found:
        assert found.files == ["arr_0"]
        assert np.array_equal(found["arr_0"], BYTES.permute(0, 2, 3, 1).numpy())
    assert names(tmp_path) == ["a.npz"]
