"""Small runs, for the tests of training, of teams and of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lit.cli import main
from ddpm_lit.recipes import Recipe, preset
from ddpm_lit.runs import CHECKPOINT, read_tensors

SMALL: dict[str, Any] = {
    "train_steps": 40,
    "batch_size": 8,
    "base_channels": 8,
    "channel_multipliers": (1, 2),
    "groups": 4,
    "T": 20,
    "save_every": 10,
    "log_every": 10,
    "warmup_steps": 5,
    "samples": 0,
    "device": "cpu",
    "tensorboard": False,
}
WORDS = [
    "--base-channels=8",
    "--groups=4",
    "--T=20",
    "--batch-size=8",
    "--save-every=10",
    "--log-every=10",
    "--warmup-steps=5",
    "--samples=0",
    "--device=cpu",
    "--no-tensorboard",
]
TEAM = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
PATIENCE = 120  # seconds until a process has ended, at most


def small(out: Path, **changes: Any) -> Recipe:
    return preset("digits", out=str(out), **{**SMALL, **changes})


def tensors(out: str | Path) -> dict[str, torch.Tensor]:
    """All that a run's checkpoint holds."""
    return read_tensors(Path(out) / CHECKPOINT, "")


def different(one: str | Path, two: str | Path) -> list[str]:
    """What differs between the checkpoints of two runs, in any bit."""
    a, b = tensors(one), tensors(two)
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def apart(one: str | Path, two: str | Path) -> float:
    """The largest difference between the checkpoints of two runs."""
    a, b = tensors(one), tensors(two)
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def partials(folder: Path) -> list[str]:
    """Files that somebody began and did not finish."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*.partial*")]


def refusal(capsys: Any, *words: str | Path) -> str:
    """The one line by which the command line refuses, with status 2."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith(f"ddpm-lit {words[0]}: error: "), said
    return said[0]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def command(
    *words: str | Path, start: Sequence[str] = (), **how: Any
) -> subprocess.Popen[str]:
    """The command line in a process of its own, or where a launcher starts it."""
    how.setdefault("env", environment())
    how.setdefault("stdout", subprocess.PIPE)
    how.setdefault("stderr", subprocess.STDOUT)
    line = [sys.executable, *start, "-m", "ddpm_lit", *map(str, words)]
    return subprocess.Popen(line, text=True, **how)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """What a process printed; it must end in time and with that status."""
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, said
    return said


def python(code: str, *words: str | Path, status: int = 0) -> str:
    """What a program printed, on both channels."""
    line = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=300, env=environment()
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def wait_until(there: Any, what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def last_step(out: Path) -> int:
    """The last step that a run has logged."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def wait_for_step(out: Path, step: int) -> None:
    wait_until(lambda: last_step(out) >= step, f"step {step} of {out}")


def awake(net: nn.Module) -> nn.Module:
    """The network with random weights of a useful size."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.08 if p.ndim > 1 else 0.2))
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1)
    return net.eval()


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())
