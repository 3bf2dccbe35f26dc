"""A team: what a launcher says, and that several processes act as one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import (
    PATIENCE,
    TEAM,
    WORDS,
    apart,
    command,
    environment,
    finish,
    refusal,
    small,
    wait_for_step,
)

import ddpm_lit.cli as cli
from ddpm_lit.cli import main
from ddpm_lit.networks.fast import decided
from ddpm_lit.recipes import Speed
from ddpm_lit.runs import CHECKPOINT, read_head, read_metrics, train
from ddpm_lit.team import (
    LAUNCH,
    Launch,
    OwnTrouble,
    Team,
    join_team,
    read_launch,
)

# The settings that it would otherwise ask for, once, and keep in the user's folder.
ACCELERATE = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2"]
ACCELERATE += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
ACCELERATE += ["--main_process_port=0"]
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
CPU = torch.device("cpu")


# ------------------------------------------------------------------ what is said


def test_a_place_in_a_team_is_read():
    said = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", **MEETING}
    assert read_launch(said) == Launch(3, 4, 1)
    for alone in ({}, MEETING, dict.fromkeys(LAUNCH, ""), {"HOME": "x"}):
        assert read_launch(alone) == Launch()


STRAY = [
    {"RANK": "0"},
    {"RANK": "1"},
    {"WORLD_SIZE": "1"},
    {"WORLD_SIZE": "2"},
    {"LOCAL_RANK": "0"},
    {"LOCAL_RANK": "3"},
    {"RANK": "0", "WORLD_SIZE": "1"},
    {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
    {"WORLD_SIZE": "2", "RANK": "0", **MEETING},
    {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", **MEETING},
    {"RANK": "-1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", **MEETING},
    {"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0", **MEETING},
    {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "-1", **MEETING},
    {"RANK": "0", "WORLD_SIZE": "0", "LOCAL_RANK": "0", **MEETING},
]


@pytest.mark.parametrize("said", STRAY, ids=lambda said: " ".join(said))
def test_half_of_what_a_launcher_says_is_refused_in_one_line(
    tmp_path, monkeypatch, capsys, said
):
    monkeypatch.chdir(tmp_path)
    for name in LAUNCH:
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    for words in (("train", *WORDS), ("sample", "nowhere", "--out=pictures")):
        line = refusal(capsys, *words)
        assert "torchrun" in line and next(iter(said)) in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["3", None])
def test_more_processes_than_gpus_are_refused(monkeypatch, number):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    place = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": number or "2", **MEETING}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="finds 2 GPUs"), join_team():
        pass


def test_a_team_that_cannot_meet_says_so_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        me = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", **MEETING}
        me["MASTER_PORT"] = str(taken.getsockname()[1])
        process = command(
            "train", *WORDS, "--out=run", cwd=tmp_path, env=environment(**me)
        )
        said = finish(process, 2).strip().splitlines()
    lines = [line for line in said if line.startswith("ddpm-lit train")]
    assert len(lines) == 1 and "cannot reach each other" in lines[0]
    assert "Traceback" not in str(said) and not (tmp_path / "run").exists()


# ------------------------------------------------------------------ one alone


def test_a_team_of_one_talks_to_nobody():
    with join_team("cpu") as team:
        assert (team.rank, team.size, team.device.type) == (0, 1, "cpu")
        assert team.together(lambda: 5) == team.in_turns(lambda: 5) == 5
        assert team.collect("x") == ["x"] and team.speaks
        assert team.any(True) and not team.any(False)
        assert team.mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
        for task in (team.together, team.in_turns):
            with pytest.raises(ZeroDivisionError):
                task(lambda: 1 / 0)
    with pytest.raises(ValueError, match="abacus"), join_team("abacus"):
        pass


def test_switches_are_decided_by_the_device_and_can_be_overruled():
    cpu = decided(Speed(), CPU)
    assert None not in vars(cpu).values() and not cpu.autocast and cpu.fused_adam
    assert decided(Speed(autocast=True), CPU).autocast
    assert Team(CPU, speed=Speed(subpixel=False)).speed.subpixel is False


def test_a_mean_leaves_the_values_alone(monkeypatch):
    # Two processes that hold the same; gloo adds up in place.
    monkeypatch.setattr(
        torch.distributed, "all_reduce", lambda total, group: total.mul_(2)
    )
    values = torch.ones(2)
    mean = Team(CPU, Launch(0, 2, 0)).mean(values)
    assert mean.tolist() == [1, 1] and values.tolist() == [1, 1]


# ------------------------------------------------------------------ two processes


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """A folder with the run of two processes, `two`."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["--train-steps=30", "--accumulate=2", "--flips", "--sample-every=20"]
    words += [*WORDS, "--samples=3", f"--out={folder / 'two'}"]
    said = finish(command("train", *words, start=TEAM))
    assert said.count("wrote") == 1 and said.count("step 30 of 30") == 1, said
    return folder


def test_two_processes_equal_one(two):
    how = {"train_steps": 30, "accumulate": 2, "flips": True, "samples": 3}
    train(small(two / "one", **how, sample_every=20), progress=False)
    assert apart(two / "one", two / "two") < 1e-4
    one, other = (read_metrics(two / name) for name in ("one", "two"))
    assert one["step"] == other["step"]
    assert np.allclose(one["loss"], other["loss"], atol=1e-5)
    for name in ("samples.png", "samples/000000020.png"):
        assert (two / "two" / name).exists()
    # One process continues what two began.
    for name in ("one", "two"):
        out = f"--out={two / name}"
        assert main(["train", "--resume", "--quiet", "--train-steps=40", out]) == 0
    assert apart(two / "one", two / "two") < 1e-3


def test_two_processes_make_the_pictures_of_one(two):
    for name, start in (("one.npz", ()), ("two.npz", TEAM)):
        words = ["--count=7", "--batch-size=4", f"--out={two / name}", "--quiet"]
        finish(command("sample", two / "two", *words, start=start))
    one, other = (np.load(two / n)["arr_0"] for n in ("one.npz", "two.npz"))
    assert one.shape == (7, 8, 8, 1) and one.dtype == np.uint8
    assert np.abs(one.astype(int) - other).max() <= 1
    assert not list(two.glob("*.partial"))


def ran(
    folder: Path, code: str, *words: str | Path, start: Sequence[str] = TEAM
) -> subprocess.CompletedProcess[str]:
    """A program at its end, run by two processes unless `start` says otherwise."""
    script = folder / "script.py"
    script.write_text(code)
    line = [sys.executable, *start, str(script), *map(str, words)]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=300, env=environment()
    )


def succeeds(*given: Any, **how: Any) -> None:
    """The same, without an error."""
    done = ran(*given, **how)
    assert done.returncode == 0, done.stdout + done.stderr


GUEST = """
from torch import distributed
from ddpm_lit.team import Team, join_team

distributed.init_process_group("gloo")
with join_team("cpu") as team:
    assert team.words is not None and team.collect(team.rank) == [0, 1]
assert Team.words is None and distributed.is_initialized(), "their group is gone"
distributed.barrier()
distributed.destroy_process_group()
"""


def test_a_group_that_was_there_is_used_and_stays(tmp_path):
    succeeds(tmp_path, GUEST)


LONELY = """
import os
import sys
import torch
import ddpm_lit.runs as runs
from ddpm_lit.cli import main

if os.environ["RANK"] == "1":
    def lost(*rest, **more):
        raise RuntimeError("CUDA out of memory")
    runs.fit = lost
sys.exit(main(sys.argv[1:]))
"""


def test_what_befalls_one_process_is_told_by_it(tmp_path):
    out = f"--out={tmp_path / 'run'}"
    done = ran(tmp_path, LONELY, "train", *WORDS, "--train-steps=50", out)
    assert done.returncode != 0
    assert "ddpm-lit train: rank 1: error: out of memory" in done.stderr, done.stderr


def test_a_process_without_a_gpu_says_so_whatever_its_number(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    place = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "2", **MEETING}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    assert main(["train", *WORDS[:-2], "--device=cuda", "--out=nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ddpm-lit train: rank 3: error: process 2 (LOCAL_RANK)")


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (OwnTrouble("mine"), True),
        (ValueError("ours"), False),
        (RuntimeError("CUDA out of memory"), True),
        (RuntimeError("closed by peer"), False),
    ],
)
def test_an_error_of_all_is_told_by_one(monkeypatch, capsys, error, heard):
    def lost(args):
        raise error

    monkeypatch.setattr(cli, "run_info", lost)
    for name, value in {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    for name, value in MEETING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DDPM_LIT_TRACEBACK", raising=False)
    assert main(["info", "somewhere"]) == 2
    assert ("rank 2" in capsys.readouterr().err) == heard


WORDS_END = """
import os
import torch
from ddpm_lit.team import join_team


def listeners():
    names = (f"/proc/self/task/{n}/comm" for n in os.listdir("/proc/self/task"))
    return sum("gloo_run" in open(name).read() for name in names)


before = listeners()
with join_team("cpu") as team, join_team("cpu") as inner:
    assert inner.words is team.words is not None, "words go another way within"
    net = team.wrap(torch.nn.Linear(4, 4))
    net(torch.ones(2, 4)).sum().backward()
    assert team.collect(team.rank) == [0, 1] and team.together(lambda: 5) == 5
    assert team.mean(torch.tensor(float(team.rank))) == 0.5
    shared = listeners() - before
# DistributedDataParallel keeps its own two for ever.
assert (shared, listeners() - before) == (4, 2), (shared, listeners() - before)
"""


def test_no_thread_that_heard_words_outlives_the_team(tmp_path):
    # One that still holds an object of Python's when the program ends aborts it.
    succeeds(tmp_path, WORDS_END)


RECORDED = """
from functools import partial

import torch
from torch import nn

from ddpm_lit.book.tapes import WrittenTape
from ddpm_lit.data import load_digits
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.networks.unet import UNet
from ddpm_lit.recipes import Optim, Speed, UNetConfig
from ddpm_lit.schedules import make_schedule
from ddpm_lit.tape import Replayed
from ddpm_lit.team import Team, _average, join_team
from ddpm_lit.training import State, fit


class Taped(Team):
    records = True

    def recorded(self, step):
        return Replayed(step, WrittenTape)


class Straight(Taped):
    def recorded(self, step):
        return step


def trained(kind, rank, **speed):
    team = kind(torch.device("cpu"), me.launch, Speed(**speed))
    torch.manual_seed(rank)  # each begins elsewhere, until they are told
    net = UNet(UNetConfig(base_channels=8, groups=4, dropout=0.2))
    if speed:  # a layout that is not that of the names
        net = net.to(memory_format=torch.channels_last)
    model = Denoiser(net, make_schedule("cosine", 100))
    optim = Optim(train_steps=8, batch_size=12, accumulate=2)
    state = State.fresh(model, optim, team)
    losses = [torch.stack(each) for each in fit(state, load_digits(), optim, team)]
    return [torch.stack(losses), *(p.detach() for p in model.parameters())]


with join_team("cpu") as me:
    shared = trained(Team, me.rank)
    straight, taped = (trained(kind, me.rank) for kind in (Straight, Taped))
    assert all(map(torch.equal, straight, taped)), "a recorded step is another step"
    # A rate in a tensor is rounded to float32.
    assert all(map(partial(torch.allclose, atol=1e-5), shared, taped))
    turned = trained(Taped, me.rank, channels_last=True)
    assert all(map(partial(torch.allclose, atol=1e-3), shared, turned))
    theirs = me.collect([p.clone() for p in taped[1:]])
    assert all(map(torch.equal, *theirs)), "the weights part"
    # Each process uses another layer, and has counted something else.
    two = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1, bias=False)})
    two.register_buffer("count", torch.tensor(me.rank + 5))
    with torch.no_grad():
        for p in two.parameters():
            p.fill_(1)
    two["ab"[me.rank]](torch.tensor([10.0 + 90 * me.rank])).sum().backward()
    _average(two, 2)
    assert [float(p.grad) for p in two.parameters()] == [5, 0.5, 50], "grads are mixed"
    assert int(two.count) == 5
"""


def test_a_team_that_records_its_steps_averages_between_recordings(tmp_path):
    succeeds(tmp_path, RECORDED)


LABELLED = """
import sys
from pathlib import Path
import torch
from torch import nn
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.runs import train
from ddpm_lit.schedules import make_schedule

sys.path.insert(0, {tests!r})
from small import small


class Told(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.shift = nn.Conv2d(1, 1, 3, padding=1), nn.Embedding(10, 64)

    def forward(self, z, t, label):
        return self.mix(z) + self.shift(label).reshape(-1, 1, 8, 8)


torch.manual_seed(0)
model = Denoiser(Told(), make_schedule("cosine", 20), size=(1, 8, 8))
recipe = small(Path(sys.argv[1]), train_steps=10, samples=2)
train(recipe, denoiser=model, progress=False)
"""


def test_a_network_that_is_told_labels_learns_them_in_a_team_too(tmp_path):
    code = LABELLED.format(tests=str(Path(__file__).parent))
    for name, start in (("one", []), ("two", TEAM)):
        succeeds(tmp_path, code, tmp_path / name, start=start)
    assert apart(tmp_path / "one", tmp_path / "two") < 1e-4


def test_accelerate_starts_a_team_too(tmp_path):
    out, words = f"--out={tmp_path / 'two'}", ["--train-steps=10", *WORDS]
    said = finish(command("train", *words, out, start=ACCELERATE))
    assert said.count("wrote") == 1, said
    train(small(tmp_path / "one", train_steps=10), progress=False)
    assert apart(tmp_path / "one", tmp_path / "two") < 1e-4


def test_a_batch_that_cannot_be_shared_is_refused_once(tmp_path):
    words = [*WORDS, "--batch-size=9", f"--out={tmp_path / 'run'}"]
    process = command("train", *words, start=TEAM)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert said.count("cannot be divided among 2 processes") == 1
    assert not (tmp_path / "run" / CHECKPOINT).exists()
    assert not (tmp_path / "run").exists(), "refused after it had begun"


def workers(launcher: int) -> list[int]:
    """The processes that a launcher started."""
    text = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    return [int(word) for word in text.split()]


def test_when_one_process_is_killed_the_others_end_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    words = ["--train-steps=100000", f"--out={out}", *WORDS]
    process = command("train", *words, start=TEAM)
    wait_for_step(out, 20)
    begun = time.monotonic()
    os.kill(workers(process.pid)[1], signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert time.monotonic() - begun < PATIENCE
    step = read_head(out / CHECKPOINT).step
    assert step >= 10
    more = f"--train-steps={step + 10}"
    assert main(["train", "--resume", "--quiet", more, f"--out={out}"]) == 0


def test_sigterm_to_the_launcher_saves_the_run(tmp_path):
    out = tmp_path / "run"
    words = ["--train-steps=100000", f"--out={out}", *WORDS, "--save-every=100000"]
    process = command("train", *words, start=TEAM)
    wait_for_step(out, 20)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert read_head(out / CHECKPOINT).step >= 20


def test_nan_in_two_processes_ends_both(tmp_path):
    out = tmp_path / "run"
    words = [*WORDS, "--train-steps=1000", "--learning-rate=1e30", "--warmup-steps=0"]
    process = command("train", f"--out={out}", *words, start=TEAM)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert said.count("not a finite number") == 1, said
    assert not (out / CHECKPOINT).exists()
