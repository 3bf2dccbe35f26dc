"""Runs: what is written, what is refused, and that nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import ddpm_lit.training as training
from ddpm_lit.data import load_dataset, to_model_range
from ddpm_lit.networks.unet import UNetConfig
from ddpm_lit.training import (
    CHECKPOINT,
    TrainConfig,
    TrainingDiverged,
    load_checkpoint,
    read_metrics,
    train,
)

TINY = TrainConfig(
    model=UNetConfig(base_channels=8, groups=4),
    T=20,
    steps=100,
    batch_size=8,
    save_every=50,
    device="cpu",
)


@pytest.fixture
def run(tmp_path: Path) -> TrainConfig:
    config = replace(TINY, out=str(tmp_path / "run"))
    train(config, progress=False)
    return config


def write_images(folder: Path, count: int, size: tuple[int, int], mode: str = "L"):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    shape = (size[0], size[1], 3) if mode == "RGB" else size
    for i in range(count):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def test_a_run_writes_its_files_and_loads(run):
    names = {p.name for p in Path(run.out).iterdir()}
    assert names == {CHECKPOINT, "config.json", "metrics.jsonl", "loss.svg"}
    loaded = load_checkpoint(run.out)
    assert loaded.step == 100 and loaded.shape(3) == (3, 1, 8, 8)
    assert loaded.schedule.T == 20
    assert not loaded.model.training, "dropout would be at work while sampling"
    last = load_checkpoint(run.out, average=False)
    pairs = zip(loaded.model.parameters(), last.model.parameters(), strict=True)
    averaged = any(not torch.equal(a, b) for a, b in pairs)
    assert averaged, "the checkpoint's average is a copy of the last weights"
    with safe_open(Path(run.out) / CHECKPOINT, "pt") as opened:
        average = opened.get_tensor("ema.conv_in.weight")
    same = torch.equal(loaded.model.conv_in.weight, average)
    assert same, "what is loaded for sampling is not the average"
    lines = (Path(run.out) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [50, 100]


def test_batches_are_training_images_as_they_are(tmp_path, monkeypatch):
    batches = []
    real = training.train_step

    def watch(model, x, *args, **kwargs):
        batches.append(x)
        return real(model, x, *args, **kwargs)

    monkeypatch.setattr(training, "train_step", watch)
    train(replace(TINY, out=str(tmp_path / "run")), progress=False)
    images = to_model_range(load_dataset("digits", "train")[0]).flatten(1)
    rows = {tuple(row): number for number, row in enumerate(images.tolist())}
    drawn = [rows.get(tuple(row)) for row in torch.cat(batches).flatten(1).tolist()]
    assert None not in drawn, "a batch holds an image that is not in the training set"
    assert len(set(drawn)) > 400, "800 draws from 1438 images should hit more of them"


def test_the_learning_rate_follows_its_schedule(tmp_path, monkeypatch):
    rates, real = [], training.train_step

    def watch(model, x, schedule, optimizer, *args, **kwargs):
        rates.append(optimizer.param_groups[0]["lr"] / TINY.learning_rate)
        return real(model, x, schedule, optimizer, *args, **kwargs)

    monkeypatch.setattr(training, "train_step", watch)
    config = replace(
        TINY, out=str(tmp_path / "run"), steps=8, warmup_steps=2, flat_fraction=0.5
    )
    train(config, progress=False)
    expected = [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert rates == pytest.approx(expected), f"the steps were taken at {rates}"


def test_train_and_test_digits_are_disjoint():
    train_images, test_images = (
        {tuple(image) for image in load_dataset("digits", split)[0].flatten(1).tolist()}
        for split in ("train", "test")
    )
    assert len(train_images) > 1400 and len(test_images) > 350
    assert not train_images & test_images, "test images are trained on"


def test_seed_decides_everything(tmp_path):
    runs = [replace(TINY, out=str(tmp_path / name)) for name in "ab"]
    one, two = (train(config, progress=False) for config in runs)
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_run_is_not_replaced_by_accident(run):
    before = (Path(run.out) / CHECKPOINT).read_bytes()
    with pytest.raises(FileExistsError, match="--resume"):
        train(run, progress=False)
    assert (Path(run.out) / CHECKPOINT).read_bytes() == before
    train(replace(run, seed=1), overwrite=True, progress=False)
    assert (Path(run.out) / CHECKPOINT).read_bytes() != before


def test_resume_refuses_another_configuration(run):
    with pytest.raises(ValueError, match="batch_size was 8 and is now 16"):
        train(replace(run, batch_size=16), resume=True, progress=False)


@pytest.mark.parametrize("damage", ["truncate", "garbage", "foreign", "other weights"])
def test_damaged_and_foreign_checkpoints_are_named(run, damage):
    path = Path(run.out) / CHECKPOINT
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(b"not a checkpoint at all")
    elif damage == "foreign":
        save_file({"x": torch.zeros(1)}, path)
    else:
        save_file(
            {"ema.x": torch.zeros(1), "betas": torch.tensor([0.1])},
            path,
            metadata={
                "format": "ddpm_lit 1",
                "config": (Path(run.out) / "config.json").read_text(),
                "step": "1",
            },
        )
    with pytest.raises(ValueError, match=r"damaged|not written by|does not fit"):
        load_checkpoint(run.out)


def test_nan_stops_and_keeps_the_last_good_checkpoint(run, monkeypatch):
    good = (Path(run.out) / CHECKPOINT).read_bytes()
    real = training.train_step

    def poisoned(model, *args, **kwargs):
        real(model, *args, **kwargs)
        return torch.tensor(float("nan"))

    monkeypatch.setattr(training, "train_step", poisoned)
    with pytest.raises(TrainingDiverged, match="last good checkpoint is kept"):
        train(replace(run, steps=300), resume=True, progress=False)
    assert (Path(run.out) / CHECKPOINT).read_bytes() == good


def test_a_crash_while_saving_keeps_the_old_checkpoint(run, monkeypatch):
    good = (Path(run.out) / CHECKPOINT).read_bytes()

    def full_disk(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(training, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        train(replace(run, steps=200), resume=True, progress=False)
    assert (Path(run.out) / CHECKPOINT).read_bytes() == good
    assert load_checkpoint(run.out).step == 100


def test_interrupt_saves(run, monkeypatch):
    real, seen = training.train_step, []

    def stop_after_ten(*args, **kwargs):
        seen.append(1)
        if len(seen) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "train_step", stop_after_ten)
    longer = replace(run, steps=150)
    twin = replace(longer, out=run.out + "-twin")
    shutil.copytree(run.out, twin.out)
    with pytest.raises(KeyboardInterrupt):
        train(longer, resume=True, progress=False)
    assert load_checkpoint(run.out).step == 110
    # The interrupted run, resumed, equals one that was never interrupted.
    monkeypatch.setattr(training, "train_step", real)
    one = train(longer, resume=True, progress=False)
    two = train(twin, resume=True, progress=False)
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    logged = read_metrics(run.out)
    assert logged["step"] == [50, 100, 110, 150]
    assert all(0 < loss < 3 for loss in logged["loss"])


def test_overwrite_keeps_the_old_run_until_the_new_one_is_done(run, monkeypatch):
    folder, old = Path(run.out), Path(run.out) / training.REPLACED
    good, lines = ((folder / n).read_bytes() for n in (CHECKPOINT, "metrics.jsonl"))
    poison = torch.tensor(float("nan"))
    monkeypatch.setattr(training, "train_step", lambda *a, **k: poison)
    with pytest.raises(TrainingDiverged, match="run before is kept"):
        train(run, overwrite=True, progress=False)
    assert (old / CHECKPOINT).read_bytes() == good
    assert (old / "metrics.jsonl").read_bytes() == lines
    monkeypatch.undo()
    (folder / "notes.txt").write_text("mine")
    train(run, overwrite=True, progress=False)
    assert not old.exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_what_a_run_wrote_is_set_aside_and_nothing_else(tmp_path):
    for name in ("checkpoint.safetensors", "checkpoint-000000010.safetensors"):
        (tmp_path / name).write_text(name)
    for name in ("samples", "tensorboard"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one").write_text(name)
    mine = ("samples.npz", "notes.json", "checkpoint-best.safetensors.bak")
    for name in mine:
        (tmp_path / name).write_text("mine")
    training.set_aside(tmp_path)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == sorted([*mine, training.REPLACED])
    old = tmp_path / training.REPLACED
    assert (old / "samples" / "one").exists() and (old / CHECKPOINT).exists()
    line = '{"step": 1, "loss": 1.0, "seconds": 0.1}\n'
    training.write_whole(tmp_path / "metrics.jsonl", line)
    with pytest.raises(FileExistsError, match="--overwrite"):
        training.begin_run(tmp_path, holds_run=True, overwrite=False)
    training.finish_run(tmp_path)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == sorted([*mine, "metrics.jsonl", "loss.svg"])


def test_a_torn_line_of_metrics_does_not_block_a_run(run):
    path = Path(run.out) / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 1')
    train(replace(run, steps=150), resume=True, progress=False)
    assert read_metrics(run.out)["step"] == [50, 100, 150]


def test_training_leaves_random_state_and_figures_alone(tmp_path):
    before = torch.get_rng_state(), dict(matplotlib.rcParams)
    train(replace(TINY, out=str(tmp_path / "run"), steps=5), progress=False)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == dict(matplotlib.rcParams)


def test_another_kind_of_device_cannot_resume(run):
    path = Path(run.out) / CHECKPOINT
    with safe_open(path, "pt") as opened:
        about = opened.metadata()
        named = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
    named["generator"] = torch.zeros(16, dtype=torch.uint8)  # as a GPU's state is
    save_file(named, path, metadata=about)
    with pytest.raises(ValueError, match="use the kind of device"):
        train(replace(run, steps=200), resume=True, progress=False)


def test_sixteen_bit_images_keep_their_shades(tmp_path):
    shades = np.array([[0, 256], [32768, 65535]], dtype=np.uint16)
    Image.fromarray(shades).save(tmp_path / "a.png")
    images, _ = load_dataset(f"folder:{tmp_path}")
    assert images.flatten().tolist() == [0, 1, 128, 255]


def test_folder_of_images(tmp_path):
    write_images(tmp_path / "set" / "cats", 3, (8, 12), "RGB")
    write_images(tmp_path / "set" / "dogs", 2, (8, 12), "RGB")
    images, labels = load_dataset(f"folder:{tmp_path / 'set'}")
    assert images.shape == (5, 3, 8, 12) and images.dtype == torch.uint8
    assert labels.tolist() == [0, 0, 0, 1, 1]
    config = replace(
        TINY, data=f"folder:{tmp_path / 'set'}", out=str(tmp_path / "run"), steps=5
    )
    assert train(config, progress=False).shape(1) == (1, 3, 8, 12)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda f: f.mkdir(), "no images in"),
        (lambda f: None, "is not a folder"),
        (lambda f: (f.mkdir(), (f / "a.png").write_text("x")), "cannot read"),
        (
            lambda f: (write_images(f, 1, (8, 8)), write_images(f / "b", 1, (4, 4))),
            "must agree",
        ),
        (lambda f: write_images(f, 2, (7, 7)), "7 x 7 pixels cannot be halved"),
    ],
)
def test_bad_folders_are_named_before_anything_is_written(tmp_path, prepare, message):
    folder = tmp_path / "pictures"
    prepare(folder)
    config = replace(TINY, data=f"folder:{folder}", out=str(tmp_path / "run"))
    with pytest.raises((ValueError, OSError)) as caught:
        train(config, progress=False)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"ema_decay": 1.0},
        {"flat_fraction": 2.0},
        {"warmup_steps": -5},
        {"device": "meta"},
        {"schedule": "stairs"},
        {"T": 0},
        {"device": "abacus"},
    ],
)
def test_bad_settings_are_named(tmp_path, change):
    with pytest.raises(ValueError) as caught:
        train(replace(TINY, out=str(tmp_path / "run"), **change), progress=False)
    assert str(next(iter(change.values()))) in str(caught.value)
    assert not (tmp_path / "run").exists()
