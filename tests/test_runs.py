"""Runs: what is written, what is refused, and that no accident loses anything."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import matplotlib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import (
    SMALL,
    WORDS,
    apart,
    command,
    different,
    finish,
    last_step,
    partials,
    python,
    refusal,
    small,
    tensors,
    wait_for_step,
)
from torch import Tensor, nn

import ddpm_lit.models as models
import ddpm_lit.runs as runs
import ddpm_lit.training as training
from ddpm_lit.cli import main
from ddpm_lit.data import Dataset, load_digits
from ddpm_lit.datasets import open_data
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.images import save_grid, save_npz
from ddpm_lit.machine import Machine
from ddpm_lit.models import save_model, sweep, write_whole
from ddpm_lit.networks.unet import build_unet
from ddpm_lit.output import draw_images, make_pictures, write_samples
from ddpm_lit.recipes import (
    DataConfig,
    Recipe,
    UNetConfig,
    preset,
    presets,
    recipe_from,
)
from ddpm_lit.runs import (
    CHECKPOINT,
    RECIPE,
    REPLACED,
    Newer,
    Run,
    TrainingDiverged,
    build_denoiser,
    catch_signals,
    check_labels,
    check_resumable,
    holds_run,
    keep_metrics,
    known_labels,
    read_head,
    read_metrics,
    read_recipe,
    read_run,
    restore_state,
    save_loss_curve,
    state_tensors,
    train,
)
from ddpm_lit.schedules import make_schedule
from ddpm_lit.team import Team, join_team
from ddpm_lit.training import State

go = partial(train, progress=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has come to its end, which no test changes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    go(small(folder))
    return folder


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Recipe:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "run")
    return small(tmp_path / "run")


def content(folder: str | Path) -> dict[str, bytes]:
    """What the files of a run hold, but for its lock."""
    files = [p for p in Path(folder).iterdir() if p.is_file() and p.name != ".lock"]
    return {path.name: path.read_bytes() for path in files}


def at_step(
    monkeypatch: pytest.MonkeyPatch, step: int, do: Callable[[State], object]
) -> None:
    """Let something happen just before a step is taken."""
    real = training.update

    def update(state, *rest):
        if state.step == step:
            do(state)
        return real(state, *rest)

    monkeypatch.setattr(training, "update", update)


# ------------------------------------------------------------------ recipes


def test_presets_are_complete_and_survive_json():
    for name, recipe in presets().items():
        assert recipe_from(json.loads(json.dumps(asdict(recipe)))) == recipe
        assert recipe.run.out == f"runs/{name}"
        data = {"book-fashion": "fashion-mnist", "book-mnist": "mnist"}
        assert recipe.data.data == data.get(name, name)
    with pytest.raises(ValueError, match="imagenet"):
        preset("imagenet")
    assert preset("digits", batch_size=8, accumulate=2).share(2) == 2
    for name in ("colour", "model", "steps"):
        with pytest.raises(ValueError, match=f"no field '{name}'"):
            Recipe().changed(**{name: 1})


def every_field() -> list[tuple[str, str]]:
    """Name and kind of each field of each part of a recipe."""
    parts = [getattr(Recipe(), part.name) for part in fields(Recipe)]
    return [(name, str(kind)) for part in parts for name, kind in hints(part).items()]


def hints(part: Any) -> dict[str, Any]:
    return get_type_hints(type(part))


@pytest.mark.parametrize(("name", "kind"), every_field())
def test_no_field_takes_a_value_of_another_kind(name, kind):
    """Numbers are no texts, truths are no numbers, and no number is endless."""
    wrong: list[Any] = [[object()], {"a": 1}, float("nan"), float("inf"), -float("inf")]
    if "str" not in kind:
        wrong += ["3", "", "true"]
    if "bool" not in kind:
        wrong += [True, False]
    if "float" not in kind:
        wrong += [1.5, 1.0]
    if "bool" in kind or "str" in kind:
        wrong += [0, 1]
    if "None" not in kind:
        wrong += [None]
    if "tuple" in kind:
        wrong += [2, [True], ["1"], [float("nan")], [float("inf")]]
    elif "bool" not in kind and "str" not in kind:
        wrong += [[1], -1]
    for value in wrong:
        with pytest.raises(ValueError) as caught:
            Recipe().changed(**{name: value})
        said = str(caught.value)
        assert said.startswith(name) and "\n" not in said, (value, said)


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_steps": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"ema_decay": 1.0},
        {"flat_fraction": 2.0},
        {"schedule": "stairs"},
        {"T": 1},
        {"accumulate": 3},
        {"keep": 0},
        {"variance": "gamma"},
        {"device": "abacus"},
        {"device": "meta"},
        {"device": "meta:0"},
        {"out": " "},
        {"data": "cats"},
        {"seed": 2**63},
        {"channel_multipliers": (1, 2, 2, 2, 2)},
    ],
)
def test_bad_settings_are_named_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ValueError) as caught:
        go(small(tmp_path / "run").changed(**wrong))
    value = next(iter(wrong.values()))
    assert str(value).strip("()") in str(caught.value) or "halved" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ what is written


def test_a_run_writes_what_it_promises(tmp_path):
    out = tmp_path / "run"
    recipe = small(out, sample_every=20, samples=4, tensorboard=True, keep=2)
    rng, style = torch.get_rng_state(), dict(matplotlib.rcParams)
    trained = go(recipe)
    assert torch.equal(rng, torch.get_rng_state())
    assert style == dict(matplotlib.rcParams)
    names = {p.name for p in out.iterdir()} - {".lock"}
    expected = {CHECKPOINT, "checkpoint-000000030.safetensors", RECIPE, "loss.svg"}
    expected |= {"metrics.jsonl", "samples.png", "samples", "tensorboard", "data.png"}
    assert names == expected
    sheets = sorted(p.name for p in (out / "samples").iterdir())
    assert sheets == ["000000020.png", "000000040.png"]
    assert list((out / "tensorboard").iterdir())
    metrics = read_metrics(out)
    assert metrics["step"] == [10, 20, 30, 40]
    wanted = {"loss", "gradient_norm", "learning_rate", "images_per_second", "seconds"}
    assert wanted <= metrics.keys() and min(metrics["images_per_second"]) > 0
    assert read_recipe(out) == read_recipe(out / RECIPE) == recipe
    averaged, last = read_run(out), read_run(out / CHECKPOINT, average=False)
    named = tensors(out)
    for name, value in averaged.net.state_dict().items():
        assert torch.equal(value, named[f"ema.{name}"])
        assert torch.equal(value, trained.net.state_dict()[name])
    for name, value in last.net.state_dict().items():
        assert torch.equal(value, named[f"model.{name}"])
    assert not averaged.training and averaged.schedule.T == 20
    assert averaged.variance == "beta_tilde" and averaged.clip
    assert holds_run(out) and not holds_run(tmp_path)


def test_flips_and_bfloat16_change_the_run(tmp_path):
    losses = {}
    for name in ("plain", "flips", "autocast"):
        go(small(tmp_path / name, **({} if name == "plain" else {name: True})))
        losses[name] = read_metrics(tmp_path / name)["loss"]
    assert losses["flips"] != losses["plain"] != losses["autocast"]
    assert np.allclose(losses["autocast"], losses["plain"], rtol=0.05)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_modes_that_the_user_wants(tmp_path, mask):
    before = os.umask(mask)
    try:
        model = go(small(tmp_path / "run", train_steps=10, sample_every=10, samples=2))
        save_model(model, tmp_path / "model")
        for place in ("folder", "all.npz", "grid.png"):
            write_samples(model, 2, tmp_path / place, Team(torch.device("cpu")))
    finally:
        os.umask(before)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"]
    assert {CHECKPOINT, "config.json", "000000.png", "all.npz"} <= {
        p.name for p in files
    }
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask, path


@pytest.fixture
def pictures() -> torch.Tensor:
    return load_digits().images[:4]


def a_run(folder: Path) -> Callable[[], None]:
    recipe = small(folder, train_steps=10)
    state = State.fresh(
        build_denoiser(recipe, load_digits()), recipe.optim, Machine("cpu")
    )
    run = Run(folder)
    run.folder.mkdir(exist_ok=True)
    return lambda: run.save(state, recipe, "")


WRITERS: dict[str, Callable[[Path, torch.Tensor], Callable[[], Any]]] = {
    "checkpoint": lambda f, x: a_run(f),
    "model": lambda f, x: partial(
        save_model, build_denoiser(small(f), load_digits()), f / "model"
    ),
    "grid": lambda f, x: partial(save_grid, x, f / "grid.png"),
    "npz": lambda f, x: partial(save_npz, [x], 4, f / "all.npz"),
    "metrics": lambda f, x: partial(keep_metrics, f, 3),
    "samples": lambda f, x: partial(
        write_samples,
        build_denoiser(small(f), load_digits()).eval(),
        2,
        f / "some.npz",
        Team(torch.device("cpu")),
    ),
}


def full_disk(*rest: Any, **more: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*rest: Any, **more: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("failure", [full_disk, interrupted])
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path, pictures, monkeypatch, failure, writer, moment
):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 9}\n')
    write = WRITERS[writer](tmp_path, pictures)
    write()
    before = content(tmp_path)
    monkeypatch.setattr(models.os, moment, failure)
    with pytest.raises((OSError, KeyboardInterrupt)) as caught:
        write()
    if failure is full_disk:
        assert str(tmp_path) in str(caught.value) and "No space" in str(caught.value)
    assert partials(tmp_path) == []
    after = content(tmp_path)
    after.pop("checkpoint-000000000.safetensors", None)  # a second name of the old one
    assert after == before


def test_a_full_disk_costs_no_checkpoint(run):
    folder = Path(run.run.out)
    good = (folder / CHECKPOINT).read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from ddpm_lit.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(good) // 2},) * 2)\n"
        "words = ['train', '--resume', '--quiet', '--train-steps=80']\n"
        "sys.exit(main([*words, '--out=' + sys.argv[1]]))\n"
    )
    said = python(code, folder, status=2).strip().splitlines()
    assert len(said) == 2 and "train_steps was 40 and is now 80" in said[0]
    assert f"cannot write {folder / CHECKPOINT}" in said[1]
    assert (folder / CHECKPOINT).read_bytes() == good and not partials(folder)
    go(run.changed(train_steps=80), resume=True)
    assert read_head(folder / CHECKPOINT).step == 80


def test_what_a_killed_process_left_is_swept(run):
    folder = Path(run.run.out)
    (folder / "samples").mkdir()
    left = [
        CHECKPOINT + ".partial",
        "loss.svg.partial",
        "samples/000000010.png.partial",
    ]
    for name in left:
        (folder / name).write_text("half")
    job = folder / "fid.npz.rows.partial"  # of a living one that writes here
    job.write_text("rows")
    go(run, resume=True)
    assert partials(folder) == [job.name]


# ------------------------------------------------------------------ accidents

KILLER = """
import os, random, sys, threading
import torch
torch.set_num_threads(1)
import ddpm_lit.models as models, ddpm_lit.runs as runs, ddpm_lit.training as training
from safetensors.torch import save_file
from sklearn.datasets import load_digits  # imported once, for all children
from small import small
from pathlib import Path

recipe = small(Path(sys.argv[1]), **{settings!r})
dice, kills = random.Random(0), 0


def die(*rest):
    os.kill(os.getpid(), 9)


def live(how, after, late):
    '''Train on; be killed `after` steps, or inside the save that follows.'''
    real_update, done = training.update, 0

    def half(named, path, metadata):
        save_file(named, path, metadata=metadata)
        os.truncate(path, int(late * 50 * os.path.getsize(path)))
        die()

    def named(*paths, real=os.replace):
        real(*paths)
        die()

    def update(*words):
        nonlocal done
        done += 1
        if done == after and how == "step":
            threading.Timer(late, die).start()  # somewhere in this step or the next
        if done >= after and how == "half a file":
            runs.save_file = half
        if done >= after and how in ("before the name", "after the name"):
            models.os.replace = die if how == "before the name" else named
        return real_update(*words)

    training.update = update
    try:
        begun = os.path.exists(recipe.run.out)
        runs.train(recipe, resume=begun, progress=False)
    except BaseException as error:
        print(type(error), error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


ways = ["step", "half a file", "before the name", "after the name"]
while True:
    how = ways[kills % 4] if kills < 20 else None
    after, late = dice.randint(1, 9), dice.random() * 0.02
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
    how = {"train_steps": 120, "save_every": 5, "dropout": 0.1, "flips": True}
    how |= {"channel_multipliers": (1,)}
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    said = python(script + KILLER.format(settings=how), tmp_path / "killed")
    assert said.strip().endswith("20 kills"), said
    go(small(tmp_path / "calm", **how))
    assert not different(tmp_path / "killed", tmp_path / "calm")
    one, two = (read_metrics(tmp_path / name) for name in ("killed", "calm"))
    assert one["step"] == two["step"], "lines of metrics are missing, or stand twice"
    assert not partials(tmp_path / "killed")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_resumed_run_equals_one_that_had_none(
    tmp_path, monkeypatch, stop
):
    how = {"train_steps": 20, "dropout": 0.2, "flips": True}
    how["channels_last"] = stop == signal.SIGTERM
    calm, broken = (small(tmp_path / name, **how) for name in "ab")
    go(calm)
    at_step(monkeypatch, 12, lambda state: os.kill(os.getpid(), stop))
    words = ["train", f"--recipe={tmp_path / 'a'}", f"--out={tmp_path / 'b'}"]
    assert main([*words, "--quiet"]) == 128 + stop
    monkeypatch.undo()
    assert read_head(tmp_path / "b" / CHECKPOINT).step == 13
    assert read_metrics(tmp_path / "b")["step"] == [10, 13]
    torch.manual_seed(999)  # a run must not depend on what others drew before
    go(broken, resume=True)
    assert not different(tmp_path / "a", tmp_path / "b")
    assert read_metrics(tmp_path / "b")["step"] == [10, 13, 20]


def test_one_process_at_a_time_and_none_after_it_was_killed(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--train-steps=100000", f"--out={out}", "--quiet"]
    process = command("train", *words, *WORDS)
    wait_for_step(out, 10)
    for more in ((), ("--overwrite",), ("--resume",)):
        said = refusal(capsys, "train", *words, *WORDS, *more)
        assert "another process is writing" in said or "holds a run already" in said
    assert "another process" in said and str(out) in said
    wait_for_step(out, last_step(out) + 20)
    assert process.poll() is None, "the second process has disturbed the first"
    process.kill()
    process.communicate()
    step = read_head(out / CHECKPOINT).step
    more = f"--train-steps={step + 10}"
    assert main(["train", "--resume", "--quiet", more, f"--out={out}"]) == 0
    assert read_head(out / CHECKPOINT).step == step + 10


def test_sigterm_to_a_process_ends_it_in_order(tmp_path):
    out = tmp_path / "run"
    process = command("train", "--train-steps=100000", f"--out={out}", *WORDS)
    wait_for_step(out, 10)
    process.terminate()
    said = finish(process, 128 + signal.SIGTERM).strip().splitlines()
    assert said[-1] == "ddpm-lit train: interrupted" and "Traceback" not in str(said)
    step = read_head(out / CHECKPOINT).step
    assert read_metrics(out)["step"][-1] == step


@pytest.mark.parametrize("damage", ["torn", "empty", "garbage"])
def test_a_torn_checkpoint_is_passed_over(run, damage, capsys):
    path = Path(run.run.out) / CHECKPOINT
    whole = path.read_bytes()
    torn = {"torn": whole[:-1], "empty": b"", "garbage": b"x" * len(whole)}
    path.write_bytes(torn[damage])
    go(run, resume=True)
    assert "skipping a checkpoint" in capsys.readouterr().err
    assert read_metrics(run.run.out)["step"] == [10, 20, 30, 40]
    path.with_name("whole").mkdir()
    path.with_name("whole").joinpath(CHECKPOINT).write_bytes(whole)
    assert not different(path.parent, path.with_name("whole")), "not the run it was"


def test_when_all_are_torn_it_says_so(run):
    for path in Path(run.run.out).glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        go(run, resume=True)
    for name in ("", CHECKPOINT):
        with pytest.raises(ValueError, match="damaged"):
            read_run(Path(run.run.out) / name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 16),
        ("seed", 1),
        ("T", 30),
        ("schedule", "linear"),
        ("objective", "v"),
        ("dropout", 0.2),
        ("flips", True),
        ("base_channels", 16),
    ],
)
def test_a_run_of_another_recipe_is_refused_by_field(run, field, value):
    before = content(run.run.out)
    with pytest.raises(ValueError, match=f"cannot resume: {field} was .* and is now"):
        go(run.changed(**{field: value}), resume=True)
    assert content(run.run.out) == before


def test_another_data_set_is_refused_and_another_speed_is_not(run):
    other = replace(load_digits(), identity="of other pictures")
    with pytest.raises(ValueError, match="pictures of digits are not those"):
        go(run, data=other, resume=True)
    free = {
        "variance": "beta",
        "save_every": 7,
        "autocast": True,
        "learning_rate": 1e-3,
    }
    go(run.changed(**free, train_steps=44), resume=True)
    assert read_run(run.run.out).variance in ("beta", "beta_tilde")


@pytest.mark.parametrize("steps", [60, 20])
def test_a_finished_run_says_what_more_steps_mean(run, capsys, steps):
    longer = run.changed(train_steps=steps, warmup_steps=0, flat_fraction=0.0)
    go(longer, resume=True)
    said = capsys.readouterr().err
    assert f"train_steps was 40 and is now {steps}" in said
    rate = training.learning_rate(40, longer.optim)
    assert steps < 40 or f"{rate:.2g}" in said
    assert " at -" not in said, "a rate below zero is none"
    assert read_head(Path(run.run.out) / CHECKPOINT).step == max(steps, 40)


def test_the_recipe_beside_a_resumed_run_is_that_of_the_run(run):
    go(run.changed(train_steps=44), resume=True)
    folder = Path(run.run.out)
    assert read_recipe(folder / RECIPE) == read_recipe(folder / CHECKPOINT)


def test_nan_stops_before_it_is_saved(run, monkeypatch):
    folder = Path(run.run.out)
    good = (folder / CHECKPOINT).read_bytes()

    def poison(state):
        with torch.no_grad():
            next(state.denoiser.parameters()).fill_(torch.nan)

    at_step(monkeypatch, 44, poison)
    with pytest.raises(TrainingDiverged, match="last good checkpoint is kept"):
        go(run.changed(train_steps=80), resume=True)
    assert (folder / CHECKPOINT).read_bytes() == good
    monkeypatch.undo()
    go(run.changed(train_steps=60), resume=True)
    assert np.isfinite(read_metrics(folder)["loss"]).all()


def test_weights_that_a_step_breaks_are_not_saved(run, monkeypatch):
    """The loss of that step was still a number."""
    folder = Path(run.run.out)
    good = (folder / CHECKPOINT).read_bytes()

    def broken(state, *rest):
        for found in training.fit(state, *rest):
            with torch.no_grad():
                next(state.denoiser.parameters()).fill_(torch.nan)
            yield found

    monkeypatch.setattr(runs, "fit", broken)
    with pytest.raises(TrainingDiverged, match="last good checkpoint is kept"):
        go(run.changed(train_steps=41, save_every=1), resume=True)
    assert (folder / CHECKPOINT).read_bytes() == good


def test_a_run_is_replaced_only_when_asked_and_kept_until_then(run, monkeypatch):
    folder = Path(run.run.out)
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-best.safetensors.bak").write_text("mine")
    wrote = content(folder)
    with pytest.raises(FileExistsError, match="holds a run already"):
        go(run)
    with pytest.raises(ValueError, match="exclude each other"):
        go(run, resume=True, overwrite=True)
    assert content(folder) == wrote
    at_step(monkeypatch, 3, lambda state: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        go(run, overwrite=True)
    mine = {"notes.txt", "checkpoint-best.safetensors.bak"}
    kept = {name: text for name, text in wrote.items() if name not in mine}
    assert content(folder / REPLACED) == kept
    # Neither a resumed nor an interrupted new run costs the old one.
    monkeypatch.undo()
    monkeypatch.setattr(runs, "catch_signals", lambda: nullcontext([signal.SIGINT]))
    with pytest.raises(KeyboardInterrupt):
        go(run, resume=True)
    assert content(folder / REPLACED)[CHECKPOINT] == wrote[CHECKPOINT]
    monkeypatch.undo()
    go(run.changed(seed=5), overwrite=True)
    assert not (folder / REPLACED).exists()
    assert read_recipe(folder).optim.seed == 5 and mine <= content(folder).keys()


def test_resume_with_nothing_there_is_refused_but_an_early_death_is_not(
    tmp_path, monkeypatch
):
    recipe = small(tmp_path / "run", train_steps=10, seed=7)
    with pytest.raises(FileNotFoundError, match="no run in"):
        go(recipe, resume=True)
    assert not (tmp_path / "run").exists()
    at_step(monkeypatch, 3, lambda state: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        go(recipe)
    monkeypatch.undo()
    assert not holds_run(tmp_path / "run")
    assert read_recipe(tmp_path / "run") == recipe
    assert main(["train", "--resume", "--quiet", f"--out={tmp_path / 'run'}"]) == 0
    assert read_recipe(tmp_path / "run") == recipe
    go(replace(recipe, run=replace(recipe.run, out=str(tmp_path / "calm"))))
    assert not different(tmp_path / "run", tmp_path / "calm")


def test_tensorboard_that_is_missing_is_named_and_changes_nothing(run, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in Path(run.run.out).iterdir()}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="ddpm_lit\\[scale\\]"):
        go(run.changed(tensorboard=True), overwrite=True)
    assert before == {p: p.stat().st_mtime_ns for p in Path(run.run.out).iterdir()}
    go(run.changed(tensorboard=None, train_steps=42), resume=True)


def test_samples_that_cannot_be_written_do_not_stop_training(tmp_path, capfd):
    recipe = small(tmp_path / "run", sample_every=10, train_steps=20, samples=2)
    (tmp_path / "run" / "samples.png").mkdir(parents=True)
    (tmp_path / "run" / "samples").write_text("a file")
    go(recipe)
    said = capfd.readouterr().err
    assert "no samples of step 10" in said and "no samples of step 20" in said
    assert read_head(tmp_path / "run" / CHECKPOINT).step == 20


def test_samples_and_saves_do_not_count_as_training_time(tmp_path, monkeypatch):
    now = [0.0]

    def wait(seconds, *rest, **more):
        now[0] += seconds

    monkeypatch.setattr(runs, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    real = training.update
    monkeypatch.setattr(training, "update", lambda *r: (wait(1), real(*r))[1])
    monkeypatch.setattr(runs, "_show_samples", partial(wait, 100))
    monkeypatch.setattr(Run, "save", partial(wait, 100))
    go(small(tmp_path, log_every=20, sample_every=30, samples=2, train_steps=60))
    assert set(read_metrics(tmp_path)["images_per_second"]) == {8.0}


def test_metrics_survive_what_a_crash_leaves(run):
    path = Path(run.run.out) / "metrics.jsonl"
    whole = path.read_bytes()
    for torn in (b'{"step": 1', b"\0" * 50, b"\xff\xfe{", b"7\n"):
        path.write_bytes(whole + torn)
        go(run, resume=True)
        assert path.read_bytes() == whole
    keep_metrics(path.parent, 20)
    assert read_metrics(path.parent)["step"] == [10, 20]
    save_loss_curve(path.parent)
    Run(path.parent).log(30, loss=0.5)
    assert read_metrics(path.parent)["loss"][2] == 0.5


# ------------------------------------------------------------------ formats


def of_format_1(folder: Path, **changes: Any) -> dict[str, torch.Tensor]:
    """Write the checkpoint of a run by ddpm_lit 0.1; returns its tensors."""
    recipe = small(folder, **changes)
    model = build_denoiser(recipe, load_digits())
    state = State.fresh(model, recipe.optim, Machine("cpu"))
    list(training.fit(state, load_digits(), recipe.optim))
    network = {**asdict(recipe.model), "channel_multipliers": [1, 2]}
    config = {"data": "digits", "out": str(folder), "schedule": "cosine", "T": 20}
    config |= {"model": network, "steps": 10, "batch_size": 8, "learning_rate": 0.004}
    config |= {"warmup_steps": 5, "flat_fraction": 0.5, "ema_decay": 0.99, "clip": 2.0}
    config |= {"save_every": 10, "seed": 0, "device": "cpu", "image_size": [8, 8]}
    old = {"train": None, "speed": {"autocast": None, "foreach_ema": True}}
    old |= {"horizontal_flips": True, "accumulate": 1, "keep": 2, "log_every": 10}
    old |= {"sample_every": 0, "variance": "beta", "tensorboard": False}
    named = state_tensors(state)
    named["generator"] = torch.zeros(5056, dtype=torch.uint8)
    named["dropout_generator"] = torch.zeros(5056, dtype=torch.uint8)
    about = {"format": "ddpm_lit 1", "config": json.dumps(config, indent=2)}
    about |= {"recipe": json.dumps(old), "step": str(state.step)}
    folder.mkdir()
    save_file(named, folder / CHECKPOINT, metadata=about)
    (folder / RECIPE).write_text(json.dumps({**old, "train": config}, indent=2))
    (folder / "config.json").write_text(about["config"])
    (folder / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0, "seconds": 1.0}\n')
    return named


def test_a_run_of_format_1_is_read_sampled_and_resumed(tmp_path, capsys):
    out = tmp_path / "old"
    named = of_format_1(out, train_steps=10)
    for place in (out, out / RECIPE, out / CHECKPOINT):
        recipe = read_recipe(place)
        assert recipe.optim.train_steps == 10 and recipe.optim.max_norm == 2.0
        assert recipe.data.flips and recipe.run.keep == 2 and recipe.diffusion.clip
        assert recipe.diffusion.variance == "beta" and recipe.model.base_channels == 8
    model = read_run(out)
    assert model.objective == "noise" and model.clip and model.variance == "beta"
    for name, value in model.net.state_dict().items():
        assert torch.equal(value, named[f"ema.{name}"])
    sheet = f"--out={tmp_path / 'grid.png'}"
    assert main(["sample", str(out), "--num=2", sheet, "--quiet"]) == 0
    assert main(["info", str(out)]) == 0
    assert "step 10 of 10" in capsys.readouterr().out
    more = ["--train-steps=20", f"--out={out}", "--quiet", "--device=cpu"]
    assert main(["train", "--resume", *more]) == 0
    assert read_head(out / CHECKPOINT).step == 20
    with safe_open(out / CHECKPOINT, "pt") as opened:
        assert opened.metadata()["format"] == "ddpm_lit 2"
    assert read_metrics(out)["step"] == [10, 20]
    assert read_recipe(out).data.flips and not partials(out)


def test_a_run_of_format_1_that_chapter_8_wrote_has_no_recipe(tmp_path):
    named, out = of_format_1(tmp_path / "old", train_steps=10), tmp_path / "old"
    (out / RECIPE).unlink()
    with safe_open(out / CHECKPOINT, "pt") as opened:
        about = {k: v for k, v in opened.metadata().items() if k != "recipe"}
    save_file(named, out / CHECKPOINT, metadata=about)
    assert read_recipe(out).optim.train_steps == 10
    assert read_run(out).variance == "beta_tilde"


def rewritten(path: Path, **about: str) -> None:
    """The same checkpoint with other words about it."""
    with safe_open(path, "pt") as opened:
        before = opened.metadata()
    save_file(tensors(path.parent), path, metadata={**before, **about})


@pytest.mark.parametrize("what", ["format", "recipe", "field", "denoiser", "model"])
def test_what_is_newer_is_called_newer_and_never_thrown_away(run, what, capsys):
    path = Path(run.run.out) / CHECKPOINT
    head = read_head(path)
    recipe, about = asdict(head.recipe), head.about
    new = {
        "format": {"format": "ddpm_lit 3"},
        "recipe": {"recipe": json.dumps({**recipe, "taste": {"salt": 1}})},
        "field": {
            "recipe": json.dumps({**recipe, "optim": {**recipe["optim"], "sun": 1}})
        },
        "denoiser": {"denoiser": json.dumps({**about, "colour": "red"})},
        "model": {"denoiser": json.dumps({**about, "format": 3})},
    }[what]
    rewritten(path, **new)
    before = path.read_bytes()
    with pytest.raises(Newer, match=r"newer|update ddpm_lit") as caught:
        read_run(path)
    assert "damaged" not in str(caught.value)
    with pytest.raises(ValueError, match=r"newer|update ddpm_lit"):
        go(run.changed(train_steps=60), resume=True)
    assert path.read_bytes() == before, "a newer checkpoint was replaced"
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 3}', "newer"),
        ('{"optim": {"momentum": 1}}', "optim.momentum"),
        ("[1]", "no settings"),
        ("{", "is no recipe"),
        ('{"optim": {"train_steps": "9"}}', "train_steps = '9'"),
        ('{"optim": 3}', "optim"),
    ],
)
def test_a_recipe_file_that_cannot_be_used_is_named(tmp_path, text, message, capsys):
    path = tmp_path / "mine.json"
    path.write_text(text)
    said = refusal(capsys, "train", f"--recipe={path}", f"--out={tmp_path / 'run'}")
    assert message in said and str(path) in said
    assert not (tmp_path / "run").exists()


def test_foreign_and_incomplete_checkpoints_are_named(run):
    path = Path(run.run.out) / CHECKPOINT
    named = tensors(path.parent)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="was not written by ddpm_lit"):
        read_run(path)
    assert read_run(path.parent).schedule.T == 20, "the checkpoint before is whole"
    head = {"format": "ddpm_lit 2", "step": "1"}
    save_file({"x": torch.zeros(1)}, path, metadata=head)
    with pytest.raises(ValueError, match="recipe"):
        read_run(path)
    state = State.fresh(
        build_denoiser(run, load_digits()), run.optim, Machine("cpu"), False
    )
    restore_state(state, named, 40)
    assert state.step == state.ema.updates == 40
    named["model.conv_out.bias"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"cannot resume: .*conv_out"):
        restore_state(state, named, 40)
    check_resumable(Run(path.parent) and runs.Head(run, {}, 40, "x"), run, "x")


# ------------------------------------------------------------------ your own


class Mine(nn.Module):
    """A network that is not the book's."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.shift = nn.Conv2d(1, 1, 3, padding=1), nn.Embedding(10, 64)

    def forward(self, z, t, label=None):
        told = 0 if label is None else self.shift(label).reshape(-1, 1, 8, 8)
        return self.mix(z) + told


@pytest.mark.parametrize("size", [(1, 8, 8), ()])
def test_a_network_of_your_own_is_trained_kept_and_resumed(tmp_path, size):
    def mine() -> Denoiser:
        with training.drawn_from(0, torch.device("cpu")):
            return Denoiser(Mine(), make_schedule("cosine", 20), "v", size=size)

    recipe = small(tmp_path / "run", train_steps=20, samples=2)
    go(recipe.changed(train_steps=10), denoiser=mine())
    go(recipe, denoiser=mine(), resume=True)
    again = read_run(tmp_path / "run", net=Mine())
    assert again.objective == "v" and again.size == (1, 8, 8)
    assert (tmp_path / "run" / "samples.png").exists()
    with pytest.raises(ValueError, match="it holds a Mine"):
        read_run(tmp_path / "run")
    moved = tensors(tmp_path / "run")["model.shift.weight"] - mine().net.shift.weight
    assert moved.abs().max() > 1e-3, "the labels were not told"


def test_data_of_your_own_are_taken_even_when_there_are_none(tmp_path):
    few = replace(load_digits(), images=load_digits().images[:5], cond={}, identity="5")
    go(small(tmp_path / "few", train_steps=4), data=few)
    assert read_head(tmp_path / "few" / CHECKPOINT).identity == "5"
    none = replace(few, images=few.images[:0])
    with pytest.raises(ValueError):
        go(small(tmp_path / "none", train_steps=4), data=none)
    assert not (tmp_path / "none" / CHECKPOINT).exists()


# ------------------------------------------------------------------ the pieces


def test_signals_are_collected_and_the_handlers_put_back(monkeypatch):
    before, clock = signal.getsignal(signal.SIGTERM), [100.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: clock[0])
    with catch_signals() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # a launcher may pass it on
        time.sleep(0.01)
        assert asked == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(KeyboardInterrupt), catch_signals():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        clock[0] += 6
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    done: list[Path] = []
    thread = threading.Thread(target=lambda: done.extend(thread_signals()))
    thread.start()
    thread.join()
    assert done == []


def thread_signals() -> list[Any]:
    with catch_signals() as asked:
        return asked


def test_a_picture_depends_on_its_seed_and_number_alone(run):
    model = read_run(run.run.out)
    with join_team("cpu") as team:
        five = draw_images(model, 5, team=team).int()
    assert int((draw_images(model, 3).int() - five[:3]).abs().max()) <= 1
    assert int((draw_images(model, 5, batch_size=2).int() - five).abs().max()) <= 1
    assert int((draw_images(model, 5, seed=1).int() - five).abs().max()) > 1
    assert len({tuple(image.flatten().tolist()) for image in five}) == 5
    ((numbers, one),) = make_pictures(model, [3], steps=[20, 10])
    assert list(numbers) == [3] and one.shape == (1, 1, 8, 8)


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "deep" / "file"
    write_whole(path, lambda part: part.write_text("one"))
    with pytest.raises(ZeroDivisionError):
        write_whole(path, lambda part: 1 / 0)
    assert path.read_text() == "one" and not partials(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write .*file/b"):
        write_whole(tmp_path / "file" / "b", lambda part: part.write_text("two"))


def test_only_what_is_old_and_unfinished_is_swept(tmp_path):
    (tmp_path / "c.partial").mkdir()
    (tmp_path / "d.partial").mkdir()
    for name in ("a.partial", "b.partial", "whole", "c.partial/x", "d.partial/x"):
        (tmp_path / name).touch()
    for name in ("a.partial", "whole", "c.partial/x", "c.partial"):
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "b.partial",
        "d.partial",
        "whole",
    ]


def test_a_run_that_ran_apart_is_near(tmp_path):
    for name, subpixel in (("a", True), ("b", False)):
        go(small(tmp_path / name, subpixel=subpixel, train_steps=10))
    assert 0 < apart(tmp_path / "a", tmp_path / "b") < 1e-3
    assert SMALL["train_steps"] == 40


# ------------------------------------------------------------------ of one's own


class Any2(nn.Module):
    """A network for examples of any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return self.scale * z


@pytest.mark.parametrize("shape", [(4, 8, 8), (2,), (3, 6)])
def test_examples_that_are_no_pictures_are_trained_on_without_a_sheet(
    tmp_path, capsys, shape
):
    data = Dataset(torch.randn(16, *shape, generator=torch.Generator().manual_seed(0)))
    model = Denoiser(Any2(), make_schedule("cosine", 20), "v")
    recipe = small(tmp_path / "run", train_steps=3, samples=4, sample_every=1)
    assert go(recipe, denoiser=model, data=data).size == shape
    assert capsys.readouterr().err.count("are no pictures: no samples") == 1
    assert not list((tmp_path / "run").rglob("*.png"))
    assert (tmp_path / "run" / "loss.svg").exists()


def test_flips_that_the_data_ask_for_are_made(tmp_path, monkeypatch):
    assert open_data(DataConfig(flips=True)).flips
    assert not open_data(DataConfig()).flips
    seen = []
    real = training.update

    def update(state, working, optim, machine, x, *rest, **cond):
        seen.append(bool((x[:, :, :, 4:] > 0).any()))
        return real(state, working, optim, machine, x, *rest, **cond)

    monkeypatch.setattr(training, "update", update)
    left = torch.zeros(16, 1, 8, 8, dtype=torch.uint8)
    left[..., :4] = 255
    go(small(tmp_path / "run", train_steps=2), data=Dataset(left, flips=True))
    assert seen == [True, True]


def test_another_chain_is_not_resumed(tmp_path):
    for name in ("linear", "cosine"):
        model = Denoiser(Any2(), make_schedule(name, 10), "v")
        recipe = small(tmp_path / "run", train_steps=2 if name == "linear" else 4)
        if name == "linear":
            go(recipe, denoiser=model)
    with pytest.raises(ValueError, match="the noise schedule was another"):
        go(recipe, denoiser=model, resume=True)


def test_a_loss_that_is_lost_has_its_name_when_a_sheet_comes_first(tmp_path):
    recipe = small(
        tmp_path / "run",
        learning_rate=1e30,
        warmup_steps=0,
        samples=2,
        sample_every=3,
        log_every=50,
        save_every=50,
    )
    with pytest.raises(TrainingDiverged, match="near step 3"):
        go(recipe)


def test_a_torn_line_of_metrics_is_passed_over(run):
    path = Path(run.run.out) / "metrics.jsonl"
    with open(path, "a") as file:
        file.write('{"step": 50, "lo')
    assert read_metrics(run.run.out)["step"] == [10, 20, 30, 40]


@pytest.mark.parametrize("recipe", ["[]", "3", '{"model": 3}'])
def test_a_checkpoint_whose_recipe_is_none_is_no_traceback(run, recipe):
    file = Path(run.run.out) / CHECKPOINT
    with safe_open(file, "pt") as opened:
        about = {**opened.metadata(), "recipe": recipe}
    save_file(load_file(file), file, metadata=about)
    with pytest.raises(ValueError, match="checkpoint"):
        read_head(file)


def test_labels_are_those_of_the_model_by_number_and_by_name():
    named = UNetConfig(base_channels=8, groups=4, classes=2, label_names=("cat", "dog"))
    plain = replace(named, label_names=())
    assert (known_labels(named), known_labels(plain)) == ("cat, dog", "0..1")
    told = {"label": torch.tensor([0, 1])}
    data = Dataset(torch.zeros(2, 1, 8, 8), told, label_names=("cat", "dog"))
    other = replace(data, label_names=("cow", "dog"))
    chain = make_schedule("cosine", 20)
    mine, numbers = (Denoiser(build_unet(c), chain) for c in (named, plain))
    for model, fits in ((mine, data), (numbers, data), (numbers, other)):
        check_labels(model, fits)
    check_labels(Denoiser(Any2(), chain), other)  # it is told none
    more = replace(data, cond={"label": torch.tensor([0, 2])})
    for model, wrong in ((mine, other), (mine, more), (numbers, more)):
        with pytest.raises(ValueError, match="data has other labels than"):
            check_labels(model, wrong)
