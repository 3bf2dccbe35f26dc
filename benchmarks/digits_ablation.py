"""What each choice of the digits recipe is worth, at equal training time.

    python benchmarks/digits_ablation.py --seconds 90 --threads 2 --out FILE.json

Every variant differs from the default recipe in one choice and trains for the same
time: its speed is measured first and turned into a number of steps, so that its
learning-rate schedule ends when the time does. Scores are those of chapter 9.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from ddpm_lit import __version__
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.evaluation import DigitJudge
from ddpm_lit.guidance import clipped
from ddpm_lit.recipes import preset
from ddpm_lit.runs import read_run, train
from ddpm_lit.samplers import ddpm
from ddpm_lit.sampling import Noise, sample

VARIANTS: dict[str, dict] = {
    "default": {},
    "default, another seed": {"seed": 1},
    "two blocks per level": {"blocks_per_level": 2},
    "attention in the middle": {"middle_attention": True},
    "width 24": {"base_channels": 24},
    "width 32": {"base_channels": 32},
    "linear schedule": {"schedule": "linear"},
    "batch 64": {"batch_size": 64},
    "batch 256": {"batch_size": 256},
    "learning rate 8e-3": {"learning_rate": 8e-3},
    "learning rate 2e-3": {"learning_rate": 2e-3},
    "constant learning rate": {"flat_fraction": 1.0},
    "EMA 0.999": {"ema_decay": 0.999},
}


def run(changes: dict, seconds: float, folder: str) -> dict:
    """Train one variant for about `seconds` and score it, averaged and last weights."""
    base = preset(
        "digits", out=folder, device="cpu", samples=0, tensorboard=False, **changes
    )
    clock = []
    for steps in (5, 10, 50):  # the first run warms up, the others give the slope
        started = time.perf_counter()
        trial = base.changed(train_steps=steps, save_every=10**9)
        train(trial, overwrite=True, progress=False)
        clock.append(time.perf_counter() - started)
    steps = int(seconds / ((clock[2] - clock[1]) / 40))
    recipe = base.changed(train_steps=steps, save_every=10 * steps)
    started = time.perf_counter()
    train(recipe, overwrite=True, progress=False)
    spent, scores = time.perf_counter() - started, {}
    for name, average in (("averaged", True), ("last weights", False)):
        made = digits(read_run(folder, average=average))
        scores[name] = {k: round(v, 4) for k, v in JUDGE.score(made).items()}
    return {"steps": steps, "seconds": round(spent, 1), **scores}


def digits(model: Denoiser, count: int = 1024) -> torch.Tensor:
    """Samples in 100 steps, from the same noise for every model."""
    noise = Noise(1, range(count), model.size)
    return sample(
        clipped(model, model.schedule),
        model.schedule,
        noise(),
        sampler=partial(ddpm, variance="beta_tilde"),
        steps=100,
        noise=noise,
    )


def main() -> None:
    """Run the chosen variants and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    result = {
        "command": " ".join(["python", "benchmarks/digits_ablation.py", *sys.argv[1:]]),
        "commit": commit,
        "versions": {
            "ddpm_lit": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "device": f"CPU, {args.threads} threads",
        "judge_accuracy": round(JUDGE.accuracy, 4),
        "real digits": {k: round(v, 4) for k, v in JUDGE.score(JUDGE.unseen).items()},
        "variants": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            result["variants"][name] = run(VARIANTS[name], args.seconds, folder)
            print(name, result["variants"][name], flush=True)
            args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


JUDGE = DigitJudge()

if __name__ == "__main__":
    main()
