"""What each choice of the digits recipe is worth, for the same amount of arithmetic.

    python benchmarks/digits_ablation.py --keep FOLDER --out FILE.json

Every variant differs from the default recipe in one choice, and is trained from three
seeds. Its number of steps is such that it multiplies as often as the default does, so a
larger network or batch takes fewer steps; what else the machine does has no influence.
Trained models are kept in FOLDER, and one that is there is not trained again. Scores
are those of chapter 9, for averaged and for last weights, and on held-out digits the
simple loss and the bound.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ddpm_lit import __version__
from ddpm_lit.data import load_digits, to_model_range
from ddpm_lit.denoiser import Denoiser
from ddpm_lit.elbo import bits_per_dim, elbo_terms
from ddpm_lit.evaluation import DigitJudge
from ddpm_lit.forward import q_sample
from ddpm_lit.guidance import clipped
from ddpm_lit.losses import kl_weight
from ddpm_lit.machine import Machine
from ddpm_lit.models import read_model, save_model
from ddpm_lit.networks.unet import UNet
from ddpm_lit.objectives import Prediction
from ddpm_lit.posterior import q_posterior
from ddpm_lit.recipes import Optim, UNetConfig
from ddpm_lit.samplers import ddpm
from ddpm_lit.sampling import Noise, sample
from ddpm_lit.schedules import at_step, make_schedule
from ddpm_lit.training import State, drawn_from, fit, seed_of

SEEDS = (0, 1, 2)
CPU = Machine("cpu")


class Weighted(Denoiser):
    """The same denoiser, whose loss carries the weights of the bound, of mean 1."""

    def loss(self, x: Tensor, t: Tensor, noise: Tensor, **cond: Tensor) -> Tensor:
        weight = kl_weight(torch.arange(1, self.schedule.T + 1), self.schedule)
        error = super().loss(x, t, noise, **cond)
        return (
            error * at_step(torch.cat([weight[:1], weight]), t, error) / weight.mean()
        )

    def with_net(self, net: Any) -> Denoiser:
        return Weighted(net, self.schedule, self.objective, size=self.size)


class MeanOfPosterior(Denoiser):
    """A network that is taught the mean of z_{t-1}, eq-posterior-mean."""

    def forward(self, z: Tensor, t: Tensor | int, **cond: Tensor) -> Prediction:
        every = torch.full((len(z),), t) if isinstance(t, int) else t
        mean = self.net(z, every, **cond)
        beta, spread = (
            at_step(k, t, z) for k in (self.schedule.beta, self.schedule.spread)
        )
        noise = (z - (1 - beta).sqrt() * mean) * spread / beta
        x = (z - spread * noise) / at_step(self.schedule.signal, t, z)
        return Prediction(x, noise)

    def loss(self, x: Tensor, t: Tensor, noise: Tensor, **cond: Tensor) -> Tensor:
        z = q_sample(x, t, noise, self.schedule)
        mean, _ = q_posterior(x, z, t, self.schedule)
        return (self.net(z, t, **cond) - mean).square().flatten(1).mean(1)

    def with_net(self, net: Any) -> Denoiser:
        return MeanOfPosterior(net, self.schedule, size=self.size)


@dataclass(frozen=True)
class Variant:
    """One way to train a model of digits."""

    net: UNetConfig = field(default_factory=UNetConfig)
    optim: Optim = field(default_factory=Optim)
    schedule: str = "cosine"
    objective: str = "noise"
    kind: type[Denoiser] = Denoiser

    def denoiser(self, seed: int) -> Denoiser:
        """A fresh one."""
        with drawn_from(seed_of("weights", seed), CPU.device):
            net = UNet(self.net)
        schedule = make_schedule(self.schedule, 1000)
        return self.kind(net, schedule, self.objective, size=(1, 8, 8))


VARIANTS: dict[str, Variant] = {
    "default": Variant(),
    "linear schedule": Variant(schedule="linear"),
    "predicts x": Variant(objective="x"),
    "predicts v": Variant(objective="v"),
    "predicts the mean": Variant(kind=MeanOfPosterior),
    "weights of the bound": Variant(kind=Weighted),
    "linear, weights of the bound": Variant(schedule="linear", kind=Weighted),
    "one level": Variant(net=UNetConfig(channel_multipliers=(1,))),
    "three levels": Variant(net=UNetConfig(channel_multipliers=(1, 2, 2))),
    "attention in the middle": Variant(net=UNetConfig(middle_attention=True)),
    "constant learning rate": Variant(optim=Optim(flat_fraction=1.0)),
    "two blocks per level": Variant(net=UNetConfig(blocks_per_level=2)),
    "width 32": Variant(net=UNetConfig(base_channels=32)),
}


def products(variant: Variant) -> int:
    """Multiplications of one step forward and back, as torch counts them."""
    model = variant.denoiser(0)
    x = torch.zeros(variant.optim.batch_size, 1, 8, 8)
    t = torch.ones(len(x), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.loss(x, t, torch.randn_like(x)).mean().backward()
    return counter.get_total_flops()


def trained(variant: Variant, steps: int, seed: int, folder: Path) -> list[Denoiser]:
    """The denoiser with averaged and with last weights."""
    places = [folder / "averaged", folder / "last"]
    fresh = variant.denoiser(seed)
    if not all((place / "config.json").exists() for place in places):
        optim = replace(variant.optim, train_steps=steps, seed=seed)
        state = State.fresh(fresh, optim, CPU)
        for _ in fit(state, load_digits(), optim):
            pass
        for place, model in zip(places, (state.ema.model, state.denoiser), strict=True):
            save_model(model, place)
    return [fresh.with_net(read_model(place).net) for place in places]


def pictures(
    model: Denoiser, count: int = 1024, steps: int = 50, variance: str = "beta_tilde"
) -> Tensor:
    """Samples, from the same noise for every model."""
    noise = Noise(1, range(count), model.size)
    predict = clipped(model, model.schedule)
    sampler = partial(ddpm, variance=variance)
    end = sample(
        predict, model.schedule, noise(), sampler=sampler, steps=steps, noise=noise
    )
    return end.clamp(-1, 1)


@torch.no_grad()
def held_out_loss(model: Denoiser) -> float:
    """Mean squared error in the noise, on held-out digits, over all steps alike."""
    x = to_model_range(load_digits("test").images).repeat(25, 1, 1, 1)
    source = torch.Generator().manual_seed(7)
    t = torch.randint(1, model.schedule.T + 1, (len(x),), generator=source)
    noise = torch.randn(x.shape, generator=source)
    missed = []
    for part in torch.arange(len(x)).split(500):
        z = q_sample(x[part], t[part], noise[part], model.schedule)
        missed.append((model(z, t[part]).noise - noise[part]).square().mean((1, 2, 3)))
    return float(torch.cat(missed).mean())


def held_out_bits(model: Denoiser, count: int = 60) -> float:
    """Bits per dimension of the bound on held-out digits, for their 17 levels."""
    x = to_model_range(load_digits("test").images[:count])
    x = ((x + 1) * 8).round() / 8 - 1  # bytes had moved the levels a little
    source = torch.Generator().manual_seed(8)
    terms = elbo_terms(model, x, levels=17, generator=source)
    return float(bits_per_dim(terms.bound, 64, None).mean())


def scored(model: Denoiser, judge: DigitJudge) -> dict[str, float]:
    """What chapter 9 says of the samples."""
    return {k: round(v, 4) for k, v in judge.score(pictures(model)).items()}


def provenance(script: str) -> dict[str, Any]:
    """What a record says of where its numbers come from."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    versions = {"ddpm_lit": __version__, "torch": torch.__version__}
    return {
        "command": " ".join(["python", f"benchmarks/{script}", *sys.argv[1:]]),
        "commit": commit,
        "versions": {**versions, "python": platform.python_version()},
        "device": "CPU, 1 thread",
    }


def begin(
    about: str, folder: str, count: int, **more: int
) -> tuple[argparse.Namespace, DigitJudge, dict[str, Any]]:
    """How a script that scores `count` pictures at a time starts.

    Reads the options `folder` and --out, computes on one thread, and returns what it
    read, the judge, and a record that says what real digits get.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    for option in (folder, "--out"):
        parser.add_argument(option, type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge = DigitJudge()
    record = {
        **provenance(Path(sys.argv[0]).name),
        "count": count,
        **more,
        "held-out digits": judge.score(to_model_range(load_digits("test").images)),
        "unseen digits": judge.score(judge.unseen[:count]),
        "runs": [],
    }
    return args, judge, record


def main() -> None:
    """Train and score the chosen variants, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    judge = DigitJudge()
    result: dict[str, Any] = {
        **provenance("digits_ablation.py"),
        "judge_accuracy": round(judge.accuracy, 4),
        "real digits": {k: round(v, 4) for k, v in judge.score(judge.unseen).items()},
        "variants": {},
    }
    budget = products(VARIANTS["default"]) * Optim().train_steps
    for name in args.only:
        variant, rows = VARIANTS[name], []
        steps = round(budget / products(variant))
        for seed in SEEDS:
            folder = args.keep / name.replace(" ", "-") / str(seed)
            averaged, last = trained(variant, steps, seed, folder)
            rows.append(
                {
                    "averaged": scored(averaged, judge),
                    "last weights": scored(last, judge),
                    "loss": round(held_out_loss(averaged), 5),
                    "bits": round(held_out_bits(averaged), 4),
                }
            )
            print(name, seed, rows[-1], flush=True)
        result["variants"][name] = {"steps": steps, "runs": rows}
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
