"""All that a GPU can tell of this package, in order of importance, in limited time.

    python benchmarks/gpu.py --seconds 480 --out benchmarks/results/gpu.json

Each phase writes what it found before the next begins; one that would not be over in
time is left out, and named. Cases are measured one after the other, each with a fresh
compiler, and the first once more at the end, to see whether the card has changed.
`models` trains the small models of the package and leaves them beside the file.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pictures
import speed

from ddpm_lit.data import Dataset
from ddpm_lit.models import save_model
from ddpm_lit.networks.fast import quicken
from ddpm_lit.output import DeviceNoise, make_pictures
from ddpm_lit.recipes import Speed, preset
from ddpm_lit.runs import build_denoiser, read_metrics, train
from ddpm_lit.samplers import ddim, ddpm
from ddpm_lit.team import Team
from ddpm_lit.training import State, fit

GPU = torch.device("cuda")
Step = Callable[[], None]


def ours(name: str, batch: int, **switches: bool) -> Step:
    """A whole training step of a preset, on random pictures of its size."""
    recipe = preset(name, batch_size=batch, **switches)
    edge = 32 if name == "cifar10" else 28
    shape = (512, recipe.model.in_channels, edge, edge)
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=source)
    known = {"label": torch.arange(512) % 10} if recipe.lesson.labels else {}
    data = Dataset(images, known, flips=recipe.data.flips)
    team = Team(GPU, speed=recipe.speed)
    model = build_denoiser(recipe, data)
    quicken(model.net, team.speed)  # before Adam and the average get a layout
    if team.speed.data_on_device:
        known = {k: v.to(GPU) for k, v in known.items()}
        data = Dataset(images.to(GPU), known, flips=recipe.data.flips)
    state = State.fresh(model, recipe.optim, team, bool(team.speed.fused_adam))
    steps = fit(state, data, recipe.optim, team)
    return lambda: next(steps)


def alone(
    makers: dict[str, Callable[[], Step]], rounds: int = 6, repeats: int = 10
) -> dict[str, Any]:
    """Milliseconds of a step of each case by itself, and the memory that it needs."""
    found: dict[str, Any] = {}
    for name, make in makers.items():
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.manual_seed(0)
        began = time.perf_counter()
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        try:
            step = make()
            for _ in range(6):
                step()
            torch.cuda.synchronize()
        except Exception as error:  # of theirs or ours: the others are still measured
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            print(name, found[name], flush=True)
            continue
        ready, times = time.perf_counter() - began, []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(repeats):
                step()
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - began) / repeats)
        times.sort()
        found[name] = {
            "ms": round(times[len(times) // 2], 3),
            "least": round(times[0], 3),
            "most": round(times[-1], 3),
            "seconds before": round(ready, 1),
            "peak GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2),
            "compiled graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"]
            - graphs,
        }
        print(name, found[name], flush=True)
        del step
    return found


def rated(rows: dict[str, Any], batch: int, ceiling: float) -> dict[str, Any]:
    """The same with pictures per second and the share of the ceiling (eq-share)."""
    work = 3 * speed.operations() * batch
    for name, row in rows.items():
        if "ms" not in row:
            continue
        row["images/s"] = round(1000 * batch / row["ms"])
        if "lucidrains" not in name:  # another network, with fewer operations
            row["share"] = round(work / row["ms"] * 1000 / ceiling, 3)
    return rows


def models(out: Path) -> dict[str, Any]:
    """The small models: trained by their presets, scored, and left beside the file."""
    found: dict[str, Any] = {}
    for name in ("book-fashion", "book-mnist"):
        recipe = preset(name, out=str(out.parent / name), samples=0, tensorboard=False)
        began = time.perf_counter()
        model = train(recipe, progress=False, overwrite=True)
        seconds = time.perf_counter() - began
        history = read_metrics(recipe.run.out)
        save_model(model, out.parent / f"{name}-model")
        rate = history["images_per_second"]
        found[name] = {
            "train steps": recipe.optim.train_steps,
            "seconds": round(seconds, 1),
            "steps/s, median": round(
                sorted(rate)[len(rate) // 2] / recipe.optim.batch_size, 1
            ),
            "loss of the last 1000 steps": round(sum(history["loss"][-20:]) / 20, 5),
            "parameters": sum(p.numel() for p in model.parameters()),
            **pictures.scores(model, recipe.data.data, GPU),
        }
    return found


def training(ceiling: float) -> dict[str, Any]:
    """The step of the paper's network, ours and theirs, batch 128."""
    best = partial(speed.diffusers_step, GPU, 128, True, True, True, True)
    cases = {
        "ddpm_lit, as it comes": lambda: ours("cifar10", 128),
        "diffusers, bf16, fused, channels_last, compile": best,
        "ddpm_lit, no graph": lambda: ours("cifar10", 128, graph=False),
        "ddpm_lit, no plain norm": lambda: ours("cifar10", 128, plain_norm=False),
        "ddpm_lit, no compile": lambda: ours("cifar10", 128, compile=False),
        "ddpm_lit, no compile, no channels_last": lambda: ours(
            "cifar10", 128, compile=False, channels_last=False
        ),
        "ddpm_lit, neither": lambda: ours("cifar10", 128, compile=False, graph=False),
        "diffusers, bf16, fused": lambda: speed.diffusers_step(GPU, 128, True, True),
        "lucidrains, bf16": lambda: speed.lucidrains_step(GPU, 128, True),
        "diffusers, its example": lambda: speed.diffusers_step(GPU, 128),
        "ddpm_lit, once more": lambda: ours("cifar10", 128),
    }
    return rated(alone(cases), 128, ceiling)


def small() -> dict[str, Any]:
    """Steps of small networks, where Python is slower than the GPU."""
    found = {}
    for name, batch in (("fashion-mnist", 128), ("book-fashion", 256)):
        cases = {
            f"{name}, {words}": partial(ours, name, batch, **switches)
            for words, switches in (
                ("as it comes", {}),
                ("no compile", {"compile": False}),
                ("no graph", {"graph": False}),
                ("neither", {"compile": False, "graph": False}),
            )
        }
        found |= alone(cases, repeats=50)
    for row in (row for row in found.values() if "ms" in row):
        row["steps/s"] = round(1000 / row["ms"], 1)
    return found


def sampling() -> dict[str, Any]:
    """The public function against the network alone, batch 256, float noise and all."""
    found: dict[str, Any] = {}
    model = speed.network(preset("cifar10")).to(GPU).eval().requires_grad_(False)
    for words, switches in (("compile", {"compile": True}), ("eager", {})):
        team = Team(GPU, speed=Speed(**switches), training=False)
        net = team.wrap(model.net)
        z, t = torch.randn(256, 3, 32, 32, device=GPU), torch.full((256,), 500)
        z, t = team.place(z), t.to(GPU)

        @torch.no_grad()
        def call(net: Any = net, team: Team = team, z: Any = z, t: Any = t) -> None:
            with team.arithmetic():
                net(z, t)

        row = alone({f"network, {words}": lambda call=call: call})
        found |= row
        if "ms" not in row[f"network, {words}"]:
            continue
        rate = 256 / row[f"network, {words}"]["ms"] * 1000
        for sampler, steps in ((ddim, 50), (ddpm, 50)):
            for _ in range(2):  # the first compiles
                began = time.perf_counter()
                rows = make_pictures(
                    model,
                    range(1024),
                    steps=steps,
                    sampler=sampler,
                    team=team,
                    source=DeviceNoise,
                )
                count = sum(len(numbers) for numbers, _ in rows)
                seconds = time.perf_counter() - began
            made = count * steps / seconds
            found[f"make_pictures, {words}, {sampler.__name__}"] = {
                "image-steps/s": round(made),
                "share of the network's own rate": round(made / rate, 3),
            }
            print(found[f"make_pictures, {words}, {sampler.__name__}"], flush=True)
    return found


def ablation(ceiling: float) -> dict[str, Any]:
    """Each switch turned, the others as they come."""
    usual = Team(GPU).speed
    cases = {"all": lambda: ours("cifar10", 128)}
    for name, on in vars(usual).items():
        if name not in ("compile", "graph"):
            words = f"{'without' if on else 'with'} {name}"
            cases[words] = partial(ours, "cifar10", 128, **{name: not on})
    return rated(alone(cases), 128, ceiling)


def scaling(ceiling: float) -> dict[str, Any]:
    """The same step for other batches."""
    found = {}
    for batch in (32, 64, 256, 512):
        row = alone({f"batch {batch}": partial(ours, "cifar10", batch)})
        found |= rated(row, batch, ceiling)
    return found


def large_job(count: int = 50_000) -> dict[str, Any]:
    """Pictures of CIFAR-10's shape with 50 calls each, chosen by the package alone."""
    model = speed.network(preset("cifar10")).to(GPU).eval().requires_grad_(False)
    team, began = Team(GPU, training=False), time.perf_counter()
    how = {"steps": 50, "sampler": ddim, "team": team, "source": DeviceNoise}
    rows = make_pictures(model, range(count), batch_size=512, **how)
    made = sum(len(numbers) for numbers, _ in rows)
    return {"pictures": made, "seconds": round(time.perf_counter() - began, 1)}


def profile() -> dict[str, float]:
    """Milliseconds of the kernels of one step, slowest first."""
    torch._dynamo.reset()
    step = ours("cifar10", 128)
    for _ in range(8):
        step()
    torch.cuda.synchronize()
    kind = torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[kind]) as seen:
        for _ in range(4):
            step()
        torch.cuda.synchronize()
    rows = [row for row in seen.key_averages() if row.self_device_time_total]
    rows.sort(key=lambda row: -row.self_device_time_total)
    return {
        f"{row.key[:90]} ({row.count // 4})": round(row.self_device_time_total / 4e3, 3)
        for row in rows[:40]
    }


def main() -> None:
    """Run the phases that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--commit", help="where the folder is no repository of git's")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py needs a GPU that runs CUDA")
    began = time.perf_counter()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    found: dict[str, Any] = {
        "command": f"python benchmarks/gpu.py --seconds {args.seconds:g}",
        "commit": args.commit or commit,
        "device": torch.cuda.get_device_name(),
        "versions": speed.versions(),
        "system": platform.platform(terse=True),
        "ceiling GFLOP/s": speed.ceiling(GPU),
        "forward GFLOP per image": round(speed.operations(), 3),
        "left out": [],
    }
    ceiling = found["ceiling GFLOP/s"]["bfloat16"]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    phases: dict[str, tuple[float, Callable[[], Any]]] = {  # seconds that it takes
        "training": (110, partial(training, ceiling)),
        "sampling": (30, sampling),
        "small": (60, small),
        "profile": (25, profile),
        "large job": (100, large_job),
        "scaling": (90, partial(scaling, ceiling)),
        "models": (450, partial(models, args.out)),
        "ablation": (300, partial(ablation, ceiling)),
    }
    for name, (needs, phase) in phases.items():
        if args.only and name not in args.only:
            continue
        left = args.seconds - (time.perf_counter() - began)
        if needs > left:
            found["left out"].append(name)
            continue
        started = time.perf_counter()
        try:
            found[name] = phase()
        except Exception as error:  # the other phases are still to come
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:400]}
        torch.cuda.empty_cache()
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        args.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    args.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
