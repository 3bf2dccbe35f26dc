"""What a model of 28 x 28 pictures is worth, by a judge that learned from real ones.

    python benchmarks/pictures.py MODEL --data fashion-mnist --out FILE.json

The judge is a small classifier; it learns from every second training picture. A set of
10,000 pictures is scored in its features against the 10,000 test pictures; the half of
the training pictures that it never saw is the standard of real ones. MODEL is a run, a
model's folder, or a name that `load_model` knows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_lit.data import Dataset, to_model_range
from ddpm_lit.datasets import open_data
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.elbo import bits_per_dim, elbo_terms
from ddpm_lit.evaluation import copied, frechet_distance, neighbours
from ddpm_lit.guidance import guided
from ddpm_lit.hub import load_model
from ddpm_lit.likelihood import log_likelihood
from ddpm_lit.output import DeviceNoise, make_pictures
from ddpm_lit.recipes import DataConfig
from ddpm_lit.samplers import ddim
from ddpm_lit.team import Team

ROWS = ((10, 1.0), (10, 1.5), (25, 1.0), (25, 1.5), (50, 1.0))  # calls, guidance


class Judge(nn.Module):
    """Three convolutions; `see` (B, 64) is what it looks at before it decides."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 64)):
            conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(64 * 9, 64), nn.ReLU()
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    @torch.no_grad()
    def see(self, x: Tensor) -> np.ndarray:
        """Features (N, 64) of pictures uint8 (N, 1, 28, 28), in float64."""
        where = self.head.weight.device
        parts = [self.body(to_model_range(b.to(where))) for b in x.split(1000)]
        return torch.cat(parts).double().cpu().numpy()

    @torch.no_grad()
    def labels(self, x: Tensor) -> Tensor:
        """What it takes pictures uint8 (N, 1, 28, 28) for, (N,)."""
        where = self.head.weight.device
        parts = [self(to_model_range(b.to(where))).argmax(1) for b in x.split(1000)]
        return torch.cat(parts).cpu()


def train_judge(data: Dataset, device: torch.device, epochs: int = 8) -> Judge:
    """A judge of every second picture."""
    torch.manual_seed(0)
    judge = Judge().to(device)
    x, y = data.images[::2].to(device), data.cond["label"][::2].to(device)
    adam = torch.optim.Adam(judge.parameters(), 2e-3)
    falling = torch.optim.lr_scheduler.ExponentialLR(adam, 0.7)
    for _ in range(epochs):
        for part in torch.randperm(len(x), device=device).split(128):
            loss = F.cross_entropy(judge(to_model_range(x[part])), y[part])
            adam.zero_grad()
            loss.backward()
            adam.step()
        falling.step()
    return judge.eval()


def made(model: Denoiser, count: int, steps: int, scale: float, team: Team) -> Tensor:
    """Pictures uint8 (count, 1, 28, 28) by DDIM, of each label as many."""
    rows = make_pictures(
        model,
        range(count),
        steps=steps,
        sampler=ddim,
        batch_size=1000,
        team=team,
        tell=partial(guided, scale=scale),
        source=DeviceNoise,
        label=torch.arange(count) % 10,
    )
    return torch.cat([pictures for _, pictures in rows])


def scores(
    model: Denoiser,
    name: str,
    device: torch.device,
    count: int = 10_000,
    rows: tuple[tuple[int, float], ...] = ROWS,
    tested: int = 1000,
) -> dict[str, Any]:
    """All that this page knows of a model of the pictures called `name`."""
    data, test = (open_data(DataConfig(name), s) for s in ("train", "test"))
    judge, model = train_judge(data, device), model.to(device).eval()
    real, unseen = judge.see(test.images), data.images[1::2]
    # From all over: neighbours in a data set may be by one hand.
    unseen = unseen[torch.arange(count) * len(unseen) // count]
    right = (judge.labels(test.images) == test.cond["label"]).double().mean()
    few = judge.see(unseen)
    found: dict[str, Any] = {
        "pictures in a set": count,
        "judge right on test pictures": round(float(right), 4),
        "frechet of unseen real pictures": round(frechet_distance(few, real), 4),
        "rows": [],
    }
    team, told = Team(device, training=False), torch.arange(count) % 10
    for steps, scale in rows:
        began = time.perf_counter()
        pictures = made(model, count, steps, scale, team)
        seconds = time.perf_counter() - began
        row = {"calls": steps, "guidance": scale, "sampler": "ddim"}
        row["frechet"] = round(frechet_distance(judge.see(pictures), real), 4)
        agrees = (judge.labels(pictures) == told).double().mean()
        row["judge agrees"] = round(float(agrees), 4)
        row["seconds"] = round(seconds, 2)
        found["rows"].append(row)
        print(row, flush=True)
    train = to_model_range(data.images)
    for word, some in (("made", pictures), ("test", test.images)):
        near = neighbours(to_model_range(some[:500]), train)[:, 0]
        found[f"distance of {word} pictures to the nearest of training"] = round(
            float(near.mean()), 4
        )
        share = copied(to_model_range(some[:500]), train)
        found[f"copies among 500 {word} pictures"] = share
    found |= likelihoods(model, test, device, tested)
    return found


@torch.no_grad()
def likelihoods(
    model: Denoiser, test: Dataset, device: torch.device, count: int
) -> dict[str, float]:
    """Bits per pixel of test pictures: by the bound, and along the flow."""
    x = to_model_range(test.images[:count].to(device))
    label = test.cond["label"][:count].to(device)
    source, dims = torch.Generator(device).manual_seed(0), x[0].numel()
    terms = elbo_terms(model, x, levels=256, generator=source, label=label)
    bound = bits_per_dim(terms.bound, dims, None)
    flow = log_likelihood(
        partial(model, label=label),
        model.schedule,
        x,
        steps=100,
        levels=256,
        generator=source,
    )
    along = bits_per_dim(flow, dims, None)
    return {
        "test pictures": count,
        "bits/dim, bound": round(float(bound.mean()), 4),
        "its standard error": round(float(bound.std() / count**0.5), 4),
        "bits/dim, flow": round(float(along.mean()), 4),
    }


def main() -> None:
    """Score a model and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    found = scores(
        load_model(args.model), args.data, torch.device(args.device), args.count
    )
    command = f"python benchmarks/pictures.py {args.model} --data {args.data}"
    about = {"command": command, "commit": commit, "device": args.device}
    about["torch"] = torch.__version__
    text = json.dumps({**about, **found}, indent=2) + "\n"
    args.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
