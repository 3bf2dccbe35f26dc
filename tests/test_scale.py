"""Training at scale: accidents lose nothing, and several processes act as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ddpm_lit.scale as scale
import ddpm_lit.training as training
from ddpm_lit.recipes import Recipe, Speed, change_recipe, preset, presets
from ddpm_lit.scale import (
    Journal,
    TrainingRun,
    check_output,
    draw_images,
    former_checkpoints,
    load_recipe,
    newest_checkpoint,
    open_run,
    prepare_model,
    resume_state,
    save_and_keep,
    save_images,
    train_at_scale,
)
from ddpm_lit.schedules import make_schedule
from ddpm_lit.team import Team, join_team
from ddpm_lit.training import (
    CHECKPOINT,
    REPLACED,
    TrainConfig,
    TrainingDiverged,
    TrainState,
    catch_signals,
    explain_divergence,
    fit_to_data,
    keep_metrics,
    load_checkpoint,
    open_checkpoint,
    read_checkpoint,
    read_metrics,
    set_learning_rate,
    train,
)

SMALL: dict[str, Any] = {
    "steps": 40,
    "batch_size": 8,
    "base_channels": 8,
    "groups": 4,
    "dropout": 0.1,
    "T": 20,
    "save_every": 10,
    "log_every": 10,
    "warmup_steps": 5,
    "device": "cpu",
    "tensorboard": False,
}
WORDS = ["--quiet", "--no-tensorboard", "--T=20", "--base-channels=8", "--groups=4"]
WORDS += ["--batch-size=8", "--save-every=10", "--log-every=10", "--warmup-steps=5"]
WORDS += ["--device=cpu"]
TEAM = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# The settings that it would otherwise ask for, once, and keep in the user's folder.
ACCELERATE = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2"]
ACCELERATE += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
ACCELERATE += ["--main_process_port=0"]
PATIENCE = 90  # seconds until the survivors of a dead process have ended, at most


def small(out: Path, **changes: Any) -> Recipe:
    return preset("digits", out=str(out), **{**SMALL, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Recipe:
    recipe = small(tmp_path / "run")
    train_at_scale(recipe, progress=False)
    return recipe


def tensors(out: str | Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(out, ("model.", "ema.", "optimizer."))[0]


def different(one: str | Path, two: str | Path) -> list[str]:
    a, b = tensors(one), tensors(two)
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def apart(one: str | Path, two: str | Path) -> float:
    a, b = tensors(one), tensors(two)
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def command(
    *words: str | Path, team: bool = False, launcher: Sequence[str] = TEAM
) -> subprocess.Popen[str]:
    """The command line in a process of its own, or in two."""
    start = [*launcher, "-m", "ddpm_lit"] if team else ["-m", "ddpm_lit"]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """What the command printed; it must end in time and with that status."""
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, said
    return said


def wait_for_step(out: Path, step: int) -> None:
    """Until a run has logged that step."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        path = out / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"{out} did not come to step {step}")


# ------------------------------------------------------------------ recipes


def test_presets_are_complete_and_survive_json():
    for name, recipe in presets().items():
        text = json.loads(json.dumps(scale.asdict(recipe)))
        assert Recipe(**text) == recipe
        assert recipe.train.out == f"runs/{name}" and recipe.train.data == name


def test_a_change_finds_its_part_and_names_what_it_cannot_find():
    recipe = change_recipe(
        presets()["mnist"], {"dropout": 0.3, "tf32": True, "keep": 7}
    )
    assert recipe.train.model.dropout == 0.3 and recipe.speed.tf32
    assert recipe.keep == 7
    for name in ("colour", "model", "train"):
        with pytest.raises(ValueError, match=name):
            change_recipe(recipe, {name: 1})
    with pytest.raises(ValueError, match="imagenet"):
        preset("imagenet")


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 0},
        {"accumulate": 3},
        {"keep": 0},
        {"log_every": 0},
        {"sample_every": -1},
        {"variance": "gamma"},
    ],
)
def test_bad_recipes_are_named(changes):
    with pytest.raises(ValueError) as caught:
        preset("digits", **changes)
    assert str(next(iter(changes.values()))) in str(caught.value)


def test_switches_are_decided_by_the_device_and_can_be_overruled():
    cpu = Speed().on(torch.device("cpu"))
    assert None not in vars(cpu).values() and not cpu.autocast and cpu.fused_adam
    assert Speed(autocast=True).on(torch.device("cpu")).autocast


# ------------------------------------------------------------------ one process


def test_a_run_writes_what_it_promises(tmp_path):
    recipe = small(tmp_path / "run", sample_every=20, tensorboard=True, keep=2)
    trained = train_at_scale(recipe, progress=False)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {CHECKPOINT, "checkpoint-000000030.safetensors", "loss.svg"} <= names
    assert "checkpoint-000000020.safetensors" not in names, "too many are kept"
    grids = sorted(p.name for p in (tmp_path / "run" / "samples").iterdir())
    assert grids == ["000000020.png", "000000040.png"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    rows = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    wanted = {"loss", "gradient_norm", "learning_rate", "images_per_second"}
    assert all(wanted <= row.keys() and row["images_per_second"] > 0 for row in rows)
    assert load_recipe(recipe.train.out) == replace(
        recipe,
        train=replace(recipe.train, image_size=(8, 8)),
    )
    loaded = load_checkpoint(recipe.train.out)
    z, t = torch.randn(loaded.shape(2)), torch.tensor([1, 20])
    assert torch.allclose(loaded.model(z, t), trained.model(z, t), atol=1e-5)


def test_ten_times_the_batch_in_parts_is_the_same(tmp_path):
    # Without dropout: parts that drop other entries are another function.
    for parts in (1, 4):
        out = tmp_path / str(parts)
        train_at_scale(small(out, accumulate=parts, dropout=0.0), progress=False)
    assert apart(tmp_path / "1", tmp_path / "4") < 1e-4


def test_flips_change_the_run_and_bf16_hardly(tmp_path):
    losses = {}
    for name, changes in {
        "plain": {},
        "flips": {"horizontal_flips": True},
        "bf16": {"autocast": True},
    }.items():
        train_at_scale(small(tmp_path / name, **changes), progress=False)
        losses[name] = read_metrics(tmp_path / name)["loss"]
    assert losses["flips"] != losses["plain"]
    assert losses["bf16"] != losses["plain"], "autocast did nothing"
    assert np.allclose(losses["bf16"], losses["plain"], rtol=0.05)


def test_a_run_of_chapter_8_can_be_read_as_a_recipe(tmp_path):
    config = replace(presets()["digits"].train, out=str(tmp_path), steps=2, T=20)
    train(config, progress=False)
    assert load_recipe(tmp_path).train.steps == 2


# ------------------------------------------------------------------ accidents

KILLER = """
import os, random, sys, threading
import torch
torch.set_num_threads(1)
import ddpm_lit.scale as scale, ddpm_lit.training as training
from ddpm_lit.recipes import preset
from safetensors.torch import save_file
from sklearn.datasets import load_digits  # imported once, for all children

recipe = preset("digits", out=sys.argv[1], **{settings!r})
dice, kills, lives = random.Random(0), 0, 0


def die(*rest):
    os.kill(os.getpid(), 9)


def live(how, after, late):
    '''Train on; be killed `after` steps, or inside the save that follows.'''
    real_step, done = scale.scaled_step, 0

    def step(*words):
        nonlocal done
        done += 1
        if done == after and how == "step":
            threading.Timer(late, die).start()  # somewhere in this step or the next
        if done >= after:
            if how == "half a file":
                def half(named, path, metadata):
                    save_file(named, path, metadata=metadata)
                    os.truncate(path, int(late * 50 * os.path.getsize(path)))
                    die()
                training.save_file = half
            elif how == "before the name":
                training.os = type("os", (), {{**vars(os), "replace": die}})
            elif how == "after the name":
                training._to_disk = lambda p: p.is_dir() and die()
        return real_step(*words)

    scale.scaled_step = step
    try:
        scale.train_at_scale(recipe, resume=os.path.exists(sys.argv[1]), progress=False)
    except BaseException as error:
        print(type(error), error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


ways = ["step", "half a file", "before the name", "after the name"]
while True:
    how = ways[kills % 4] if kills < 20 else None
    after, late = dice.randint(1, 9), dice.random() * 0.02
    lives += 1
    child = os.fork()
    if child == 0:
        live(how, after, late)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        kills += 1
        continue
    assert os.WEXITSTATUS(status) == 0, "a run failed instead of being killed"
    break
print(kills, "kills")
"""


def test_killed_at_twenty_moments_and_resumed_equals_undisturbed(tmp_path):
    settings = {**SMALL, "steps": 150, "save_every": 5}
    script = KILLER.format(settings=settings)
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "killed"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "20 kills", done.stdout
    train_at_scale(small(tmp_path / "calm", steps=150, save_every=5), progress=False)
    assert not different(tmp_path / "killed", tmp_path / "calm")
    one, two = (read_metrics(tmp_path / name) for name in ("killed", "calm"))
    assert one["step"] == two["step"], "lines of metrics are missing, or stand twice"
    left = [p.name for p in (tmp_path / "killed").iterdir() if "partial" in p.name]
    assert not left, f"left over: {left}"


def test_an_interrupted_run_equals_one_that_was_not(tmp_path, monkeypatch):
    straight, broken = (
        small(tmp_path / name, steps=20, channels_last=True) for name in "ab"
    )
    train_at_scale(straight, progress=False)
    real = scale.scaled_step

    def step(forward, state, *rest):
        if state.step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(forward, state, *rest)

    monkeypatch.setattr(scale, "scaled_step", step)
    with pytest.raises(KeyboardInterrupt):
        train_at_scale(broken, progress=False)
    monkeypatch.undo()
    assert load_checkpoint(broken.train.out).step == 13
    torch.manual_seed(999)  # a run must not depend on what others drew before
    train_at_scale(broken, resume=True, progress=False)
    unequal = different(straight.train.out, broken.train.out)
    assert not unequal, f"the resumed run differs in {unequal[:3]}"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_status_says_so(tmp_path, stop):
    out = tmp_path / "run"
    process = command("train", "--steps=100000", f"--out={out}", *WORDS)
    wait_for_step(out, 10)
    process.send_signal(stop)
    said = finish(process, 128 + stop)
    assert said.strip() == "ddpm-lit train: interrupted"
    step = load_checkpoint(out).step
    assert read_metrics(out)["step"][-1] == step
    more = step + 10
    finish(command("train", f"--steps={more}", f"--out={out}", "--resume", "--quiet"))
    assert load_checkpoint(out).step == more


def test_a_full_disk_costs_no_checkpoint(run):
    folder = Path(run.train.out)
    good = (folder / CHECKPOINT).read_bytes()
    script = (
        "import resource, signal, sys\n"
        "from ddpm_lit.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"limit = {len(good) // 2}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        f"words = ['train', '--resume', '--quiet', '--steps=80', '--out={folder}']\n"
        "sys.exit(main(words))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "cannot write the checkpoint of step 50" in done.stderr
    assert "--resume" in done.stderr
    assert (folder / CHECKPOINT).read_bytes() == good
    assert not list(folder.glob("*.partial")), "half a file is left on a full disk"
    train_at_scale(change_recipe(run, {"steps": 80}), resume=True, progress=False)
    assert load_checkpoint(folder).step == 80


@pytest.mark.parametrize("damage", ["torn", "empty", "garbage"])
def test_a_torn_checkpoint_is_passed_over(run, damage, capsys):
    path = Path(run.train.out) / CHECKPOINT
    whole = path.read_bytes()
    torn = {"torn": whole[:-1], "empty": b"", "garbage": b"x" * len(whole)}
    path.write_bytes(torn[damage])
    longer = change_recipe(run, {"steps": 60})
    train_at_scale(longer, resume=True, progress=False)
    assert "skipping a checkpoint" in capsys.readouterr().err
    straight = change_recipe(longer, {"out": run.train.out + "-straight"})
    # The rate falls towards the last step, so the first part must know of it as well.
    assert read_metrics(run.train.out)["step"] == [10, 20, 30, 40, 50, 60]
    assert straight.train.steps == load_checkpoint(run.train.out).step


def test_when_all_are_torn_it_says_so(run):
    for path in Path(run.train.out).glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        train_at_scale(run, resume=True, progress=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 16),
        ("seed", 1),
        ("T", 30),
        ("schedule", "linear"),
        ("dropout", 0.2),
        ("horizontal_flips", True),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused_by_field(run, field, value):
    before = (Path(run.train.out) / CHECKPOINT).read_bytes()
    name = "model" if field == "dropout" else field
    with pytest.raises(ValueError, match=f"cannot resume: {name} was"):
        train_at_scale(change_recipe(run, {field: value}), resume=True, progress=False)
    assert (Path(run.train.out) / CHECKPOINT).read_bytes() == before


def test_nan_stops_before_it_is_saved(run, monkeypatch):
    good = (Path(run.train.out) / CHECKPOINT).read_bytes()
    real = scale.scaled_step

    def poisoned(forward, state, *rest):
        with torch.no_grad():
            next(state.model.parameters()).fill_(float("nan"))
        return real(forward, state, *rest)

    monkeypatch.setattr(scale, "scaled_step", poisoned)
    with pytest.raises(TrainingDiverged, match="last good checkpoint is kept"):
        train_at_scale(change_recipe(run, {"steps": 80}), resume=True, progress=False)
    assert (Path(run.train.out) / CHECKPOINT).read_bytes() == good


def test_a_run_is_replaced_only_when_asked_and_kept_until_then(run, monkeypatch):
    folder = Path(run.train.out)
    wrote = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    assert sum(name.startswith("checkpoint") for name in wrote) == 3
    with pytest.raises(FileExistsError, match="--resume"):
        train_at_scale(run, progress=False)
    monkeypatch.setattr(scale, "scaled_step", lambda *rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_at_scale(run, overwrite=True, progress=False)
    kept = {p.name: p.read_bytes() for p in (folder / REPLACED).iterdir()}
    assert kept == wrote
    # Neither a resumed nor an interrupted new run costs the old one.
    ask = [signal.SIGINT]
    monkeypatch.undo()
    monkeypatch.setattr(scale, "catch_signals", lambda: nullcontext(ask))
    with pytest.raises(KeyboardInterrupt):
        train_at_scale(run, resume=True, progress=False)
    assert (folder / REPLACED / CHECKPOINT).read_bytes() == wrote[CHECKPOINT]
    monkeypatch.undo()
    train_at_scale(change_recipe(run, {"seed": 5}), overwrite=True, progress=False)
    assert not (folder / REPLACED).exists()
    assert load_recipe(folder).train.seed == 5


def test_a_run_killed_before_its_first_save_starts_again_as_it_was(tmp_path):
    out = tmp_path / "run"
    process = command(
        "train",
        "--steps=100000",
        "--seed=7",
        f"--out={out}",
        *WORDS,
        "--save-every=99999",
    )
    wait_for_step(out, 10)
    process.kill()
    process.communicate()
    assert not (out / CHECKPOINT).exists()
    finish(command("train", "--resume", "--quiet", "--steps=20", f"--out={out}"))
    found, meant = load_recipe(out), {"steps": 20, "save_every": 99999, "dropout": 0.0}
    assert found == small(out, seed=7, image_size=(8, 8), **meant)
    (out / CHECKPOINT).unlink()
    (out / "recipe.json").write_text("{")
    said = finish(command("train", "--resume", f"--out={out}"), status=2)
    assert "recipe.json is damaged" in said and len(said.strip().splitlines()) == 1


def test_wrong_tensorboard_leaves_the_run_as_it_is(run, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in Path(run.train.out).iterdir()}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    wanted = change_recipe(run, {"tensorboard": True})
    with pytest.raises(ValueError, match="TensorBoard is not installed"):
        train_at_scale(wanted, overwrite=True, progress=False)
    assert before == {p: p.stat().st_mtime_ns for p in Path(run.train.out).iterdir()}


def test_samples_that_cannot_be_written_do_not_stop_training(tmp_path, capfd):
    recipe = small(tmp_path / "run", sample_every=10, steps=20)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "samples").write_text("a file")
    assert train_at_scale(recipe, progress=False).step == 20
    assert "no samples of step 10" in capfd.readouterr().err


def test_samples_and_saves_do_not_count_as_training_time(tmp_path, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    real = scale.scaled_step

    def step(*rest):
        now[0] += 1
        return real(*rest)

    def slow(*rest, **more):
        now[0] += 100

    monkeypatch.setattr(scale, "time", clock)
    monkeypatch.setattr(scale, "scaled_step", step)
    monkeypatch.setattr(scale, "_write_samples", slow)
    recipe = small(tmp_path / "run", log_every=20, sample_every=30, save_every=50)
    train_at_scale(
        replace(recipe, train=replace(recipe.train, steps=60)), progress=False
    )
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    rates = [json.loads(line)["images_per_second"] for line in text.splitlines()]
    assert rates == [8.0] * 4


def test_one_bar_for_many_batches(capsys):
    def model(z, t):
        return torch.zeros_like(z)

    for size, unit in ((2, "image"), (6, "step")):
        draw_images(model, make_schedule("linear", 5), (6, 1, 4, 4), batch_size=size)
        said = capsys.readouterr().err
        assert said.count("  0%") == 1 and f"{unit}/s" in said, said


def test_a_mean_leaves_the_values_alone(monkeypatch):
    # Two processes that hold the same; gloo adds up in place.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.mul_(2))
    values = torch.ones(2)
    mean = Team(torch.device("cpu"), size=2).mean(values)
    assert mean.tolist() == [1, 1] and values.tolist() == [1, 1]


@pytest.mark.parametrize("number", ["3", None])
def test_more_processes_than_gpus_are_refused(monkeypatch, number):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for name, value in (("WORLD_SIZE", "4"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    if number:
        monkeypatch.setenv("LOCAL_RANK", number)
    with pytest.raises(ValueError, match="finds 2 GPUs"), join_team():
        pass


def test_a_team_that_cannot_meet_says_so_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        meeting = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(taken.getsockname()[1]),
        }
        me = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
        words = [sys.executable, "-m", "ddpm_lit", "train", *WORDS, "--out=run"]
        env = {**os.environ, **meeting, **me}
        done = subprocess.run(
            words,
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 2, done.stderr
    assert "cannot reach each other" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("out", ["folder.png", "file/samples.npz", "file/folder"])
def test_an_impossible_place_for_images_is_refused_before_they_are_made(tmp_path, out):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"folder\.png|file"):
        check_output(tmp_path / out)


def test_resume_with_nothing_there_is_refused_but_an_early_death_is_not(tmp_path):
    recipe = small(tmp_path / "run", steps=10)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        train_at_scale(recipe, resume=True, progress=False)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    # begun, and killed at once
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(asdict(recipe)))
    assert load_recipe(tmp_path / "run") == recipe
    train_at_scale(recipe, resume=True, progress=False)
    assert load_checkpoint(tmp_path / "run").step == 10


def test_tensorboard_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="ddpm_lit\\[scale\\]"):
        train_at_scale(small(tmp_path / "run", tensorboard=True), progress=False)
    train_at_scale(small(tmp_path / "run2", tensorboard=None, steps=2), progress=False)


# ------------------------------------------------------------------ two processes


def test_two_processes_equal_one(tmp_path):
    for name, team in (("one", False), ("two", True)):
        words = ["--steps=30", "--accumulate=2", "--horizontal-flips"]
        out = f"--out={tmp_path / name}"
        said = finish(command("train", *words, out, *WORDS, team=team))
        assert said.count("wrote") == 1, said
    assert apart(tmp_path / "one", tmp_path / "two") < 1e-4
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert one["step"] == two["step"]
    assert np.allclose(one["loss"], two["loss"], atol=1e-5)
    # One process continues what two began.
    more = ["train", "--resume", "--quiet", "--steps=40"]
    for name in ("one", "two"):
        finish(command(*more, f"--out={tmp_path / name}"))
    assert apart(tmp_path / "one", tmp_path / "two") < 1e-3


def test_accelerate_starts_a_team_too(tmp_path):
    out, words = f"--out={tmp_path / 'two'}", ["--steps=10", *WORDS]
    said = finish(command("train", *words, out, team=True, launcher=ACCELERATE))
    assert said.count("wrote") == 1, said
    train_at_scale(small(tmp_path / "one", steps=10, dropout=0.0), progress=False)
    assert apart(tmp_path / "one", tmp_path / "two") < 1e-4


def test_a_batch_that_cannot_be_shared_is_refused_once(tmp_path):
    words = ["--batch-size=9", f"--out={tmp_path / 'run'}"]
    process = command("train", *WORDS, *words, team=True)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert said.count("cannot be divided among 2 processes") == 1
    assert not (tmp_path / "run").exists()


def workers(launcher: int) -> list[int]:
    """The processes that a launcher started."""
    text = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    return [int(word) for word in text.split()]


def test_when_one_process_is_killed_the_others_end_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    process = command("train", "--steps=100000", f"--out={out}", *WORDS, team=True)
    wait_for_step(out, 20)
    begun = time.monotonic()
    os.kill(workers(process.pid)[1], signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert time.monotonic() - begun < PATIENCE
    step = load_checkpoint(out).step
    assert step >= 10
    steps = f"--steps={step + 10}"
    finish(command("train", "--resume", "--quiet", steps, f"--out={out}"))


def test_sigterm_to_the_launcher_saves_the_run(tmp_path):
    out = tmp_path / "run"
    process = command(
        "train",
        "--steps=100000",
        f"--out={out}",
        *WORDS,
        "--save-every=100000",
        team=True,
    )
    wait_for_step(out, 20)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert load_checkpoint(out).step >= 20


def test_nan_in_two_processes_ends_both(tmp_path):
    out = tmp_path / "run"
    words = ["--steps=1000", "--learning-rate=1e30", "--warmup-steps=0"]
    process = command("train", f"--out={out}", *WORDS, *words, team=True)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert said.count("not a finite number") == 1, said
    assert not (out / CHECKPOINT).exists()


def test_two_processes_make_the_images_of_one(run, tmp_path):
    for name, team in (("one.npz", False), ("two.npz", True)):
        words = ["--count=7", "--batch-size=2", f"--out={tmp_path / name}", "--quiet"]
        finish(command("sample", run.train.out, *words, team=team))
    one, two = (np.load(tmp_path / n)["arr_0"] for n in ("one.npz", "two.npz"))
    assert one.shape == (7, 8, 8, 1) and one.dtype == np.uint8
    assert np.abs(one.astype(int) - two).max() <= 1


# ------------------------------------------------------------------ images


def test_an_image_depends_on_its_seed_and_number_alone(run):
    trained = load_checkpoint(run.train.out)
    parts = trained.model, trained.schedule

    def make(count: int, **how: Any) -> torch.Tensor:
        return draw_images(*parts, trained.shape(count), progress=False, **how).int()

    five = make(5)
    assert int((make(3) - five[:3]).abs().max()) <= 1
    assert int((make(5, batch_size=2) - five).abs().max()) <= 1
    assert int((make(5, seed=1) - five).abs().max()) > 1
    assert len({tuple(image.flatten().tolist()) for image in five}) == 5


def test_images_are_written_in_three_forms(tmp_path):
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    for name in ("grid.png", "all.npz", "folder"):
        save_images(images, tmp_path / name)
    stored = np.load(tmp_path / "all.npz")["arr_0"]
    assert np.array_equal(stored, images.permute(0, 2, 3, 1).numpy())
    again, _ = training.load_dataset(f"folder:{tmp_path / 'folder'}")
    assert torch.equal(again, images)
    with pytest.raises(FileExistsError):
        save_images(images, tmp_path / "folder")
    with pytest.raises(ValueError, match="jpg"):
        check_output("grid.jpg")


def test_the_configuration_of_a_run_stays_readable_by_chapter_8(run):
    config = json.loads((Path(run.train.out) / "config.json").read_text())
    assert TrainConfig(**config) == load_checkpoint(run.train.out).config


# ------------------------------------------------------------------ the pieces


def test_signals_are_collected_and_the_handlers_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with catch_signals() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)  # a launcher may pass it on
        time.sleep(0.01)
        assert asked == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_asks_again_later_is_served_at_once(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    with pytest.raises(KeyboardInterrupt), catch_signals():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        clock[0] += 6
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


def test_a_team_of_one_talks_to_nobody():
    with join_team("cpu") as team:
        assert (team.rank, team.size, team.device.type) == (0, 1, "cpu")
        assert team.together(lambda: 5) == team.in_turns(lambda: 5) == 5
        assert team.collect("x") == ["x"]
        assert team.any(True) and not team.any(False)
        assert team.mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="abacus"), join_team("abacus"):
        pass


def test_the_journal_continues_where_a_run_does(tmp_path):
    recipe = small(tmp_path)
    first = Journal(recipe, 0)
    for step in (10, 20, 30):
        first.write(step, loss=1.0, seconds=0.1)
    keep_metrics(tmp_path / "metrics.jsonl", 20)
    assert read_metrics(tmp_path)["step"] == [10, 20]
    second = Journal(recipe, 10)
    second.write(20, loss=2.0, seconds=0.2)
    second.close()
    assert read_metrics(tmp_path)["loss"] == [1.0, 2.0]


def test_a_state_is_saved_kept_and_read_back(tmp_path):
    recipe = small(tmp_path / "run")
    images, config = fit_to_data(recipe.train)
    assert config.image_size == tuple(images.shape[2:]) == (8, 8)
    recipe = replace(recipe, train=config, keep=2)
    schedule, cpu = make_schedule("cosine", 20), torch.device("cpu")
    assert open_run(recipe, resume=False, overwrite=False) is False
    states = []
    for step in (3, 4, 5):
        state = TrainState.fresh(config, cpu)
        state.step = step
        set_learning_rate(state, config)
        save_and_keep(state, recipe, schedule)
        states.append(state)
    folder = Path(config.out)
    assert [p.name for p in former_checkpoints(folder)] == [
        "checkpoint-000000004.safetensors"
    ]
    with open_checkpoint(newest_checkpoint(folder)) as (_, about):
        assert about["step"] == "5"
    assert open_run(recipe, resume=True, overwrite=False) is True
    again = TrainState.fresh(replace(config, seed=9), cpu)
    resume_state(recipe, again, Team(cpu))
    assert again.step == 5
    pairs = zip(again.model.parameters(), states[-1].model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert "kept in" in explain_divergence(config, 7)


def test_a_step_of_a_run_in_pieces(tmp_path):
    recipe, cpu = small(tmp_path), torch.device("cpu")
    images, config = fit_to_data(recipe.train)
    recipe, speed = replace(recipe, train=config), recipe.speed.on(cpu)
    state = TrainState.fresh(config, cpu)
    before = [p.clone() for p in state.model.parameters()]
    run = TrainingRun(
        state, prepare_model(state, speed), images, recipe, speed, Team(cpu), None
    )
    run.advance()
    loss, norm = run.sums.tolist()
    assert state.step == 1 and loss > 0 and norm > 0
    pairs = zip(before, state.model.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)
