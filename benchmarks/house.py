"""A step of training and of sampling, beside those of an older checkout.

    git worktree add --detach /tmp/old b28cb91
    python benchmarks/house.py --old /tmp/old --out benchmarks/results/house.json

Old and new take turns, round after round, each in a process of its own, so that both
see the same machine. A ratio compares the two processes of one round, new to old: below
1 the new package is quicker. Where others use the machine too, processor time says
more than the clock on the wall. The interval holds the true median of the ratios with
at least the probability that is written beside it, whatever the noise looks like.
Counts of operations leave the network out and depend on no machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"digits": (128, (1, 8, 8)), "cifar10": (4, (3, 32, 32))}  # batch, picture
Step = Callable[[], object]


class New:
    """The package as it is now."""

    def training(self, name: str) -> Step:
        """A step of the loop: draw, forward, backward, clip, Adam, average."""
        from ddpm_lit.data import Dataset
        from ddpm_lit.recipes import preset
        from ddpm_lit.runs import build_denoiser
        from ddpm_lit.team import Team
        from ddpm_lit.training import State, fit

        recipe = preset(name, batch_size=SIZES[name][0])
        data = Dataset(pictures(name))
        team = Team(torch.device("cpu"), speed=recipe.speed)
        state = State.fresh(build_denoiser(recipe, data), recipe.optim, team)
        steps = fit(state, data, recipe.optim, team)
        return lambda: next(steps)

    def sampling(self, batch: int, steps: int) -> Step:
        """A chain for digits, of few steps."""
        from ddpm_lit.data import Dataset
        from ddpm_lit.guidance import clipped
        from ddpm_lit.recipes import preset
        from ddpm_lit.runs import build_denoiser
        from ddpm_lit.sampling import Noise, sample
        from ddpm_lit.team import Team

        recipe = preset("digits")
        model = build_denoiser(recipe, Dataset(pictures("digits"))).eval()
        team = Team(torch.device("cpu"), training=False)
        predict = clipped(model.with_net(team.wrap(model.net)), model.schedule)
        noise = Noise(0, range(batch), model.size)
        return partial(
            sample, predict, model.schedule, noise(), steps=steps, noise=noise
        )

    def step_back(self, z: Tensor, noise: Tensor) -> Step:
        """One step of sampling without its network."""
        from ddpm_lit.denoiser import Denoiser
        from ddpm_lit.guidance import clipped
        from ddpm_lit.samplers import ddpm
        from ddpm_lit.schedules import make_schedule

        schedule = make_schedule("linear", 1000)
        predict = clipped(Denoiser(lambda z, t: z, schedule), schedule)
        return lambda: ddpm(predict, z, 500, 499, schedule, lambda: noise, [])


class Old:
    """The package as it was at commit b28cb91."""

    def training(self, name: str) -> Step:
        """A step of the loop: draw, forward, backward, clip, Adam, average."""
        from ddpm_lit.recipes import preset
        from ddpm_lit.scale import (
            Shuffle,
            draw_batch,
            fast_arithmetic,
            prepare_model,
            scaled_step,
        )
        from ddpm_lit.schedules import make_schedule
        from ddpm_lit.training import TrainState

        how: dict[str, Any] = {"horizontal_flips": False}
        recipe = preset(name, batch_size=SIZES[name][0], **how)
        device = torch.device("cpu")
        speed, images = recipe.speed.on(device), pictures(name)
        state = TrainState.fresh(recipe.train, device, speed.fused_adam)
        forward = prepare_model(state, speed)
        schedule = make_schedule(recipe.train.schedule, 1000)
        order = Shuffle(len(images), 0)

        def step() -> None:
            drawn = draw_batch(images, order, state.step, recipe, state.generator)
            with fast_arithmetic(speed, device):
                scaled_step(forward, state, drawn, schedule, recipe, speed)

        return step

    def sampling(self, batch: int, steps: int) -> Step:
        """A chain for digits, of few steps."""
        from ddpm_lit.recipes import Speed
        from ddpm_lit.sampling import sample
        from ddpm_lit.scale import quicken
        from ddpm_lit.schedules import make_schedule
        from ddpm_lit.unet import UNet, UNetConfig

        net = quicken(UNet(UNetConfig()).eval(), Speed().on(torch.device("cpu")))
        sources = [torch.Generator().manual_seed(i) for i in range(batch)]
        how: dict[str, Any] = {"steps": steps, "generator": sources, "progress": False}
        schedule = make_schedule("cosine", 1000)
        return partial(sample, net, schedule, (batch, 1, 8, 8), **how)

    def step_back(self, z: Tensor, noise: Tensor) -> Step:
        """One step of sampling without its network."""
        from ddpm_lit.sampling import ancestral_step
        from ddpm_lit.schedules import make_schedule

        schedule = make_schedule("linear", 1000)
        return lambda: ancestral_step(lambda z, t: z, z, 500, schedule, noise)


def pictures(name: str) -> Tensor:
    """Random bytes; the time does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    shape = (512, *SIZES[name][1])
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


class Count(TorchDispatchMode):
    """How often each operation of torch is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def operations(package: New | Old) -> dict[str, dict[str, int]]:
    """Operations beside the network: of a step of sampling, and of q_sample."""
    from ddpm_lit.forward import q_sample
    from ddpm_lit.schedules import make_schedule

    z, noise, t = *torch.zeros(2, 64, 1, 8, 8), torch.arange(1, 65)
    schedule = make_schedule("linear", 1000)
    cases: dict[str, Step] = {
        "step of sampling": package.step_back(z, noise),
        "q_sample": lambda: q_sample(z, t, noise, schedule),
    }
    found = {}
    for name, case in cases.items():
        with Count() as count:
            case()
        calls = dict(count.calls.most_common())
        found[name] = {"all": sum(calls.values()), **calls}
    return found


def timed(step: Step, repeats: int, per: int = 1) -> dict[str, float]:
    """Median seconds of a step, after two that are not counted, by either clock;
    one call of `step` is `per` steps."""
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    found: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(repeats + 2):
        started = {name: clock() for name, clock in clocks.items()}
        step()
        for name, clock in clocks.items():
            found[name].append((clock() - started[name]) / per)
    return {name: statistics.median(times[2:]) for name, times in found.items()}


def measure(which: str, args: argparse.Namespace) -> None:
    """Measure the package that this process imports, and print what was found."""
    torch.set_num_threads(args.threads)
    package, chain = {"new": New, "old": Old}[which](), args.chain
    seconds = {
        "training, digits, batch 128": timed(package.training("digits"), args.steps),
        "training, 35.7 M, batch 4": timed(package.training("cifar10"), args.large),
    }
    for batch in (1, 64):
        found = timed(package.sampling(batch, chain), 3, chain)
        seconds[f"sampling step, digits, batch {batch}"] = found
    print(json.dumps({"seconds": seconds, "operations": operations(package)}))


def columns(rows: list[dict[str, Any]], clock: str) -> dict[str, list[float]]:
    """The seconds of each case, round after round."""
    names = rows[0]["seconds"]
    return {name: [row["seconds"][name][clock] for row in rows] for name in names}


def compared(found: dict[str, list[dict[str, Any]]], clock: str) -> dict[str, Any]:
    """Seconds of new and old, and their ratios."""
    times = {which: columns(rows, clock) for which, rows in found.items()}
    return {
        name: {
            "new": round(statistics.median(new), 6),
            "old": round(statistics.median(times["old"][name]), 6),
            "new to old": interval(
                [a / b for a, b in zip(new, times["old"][name], strict=True)]
            ),
        }
        for name, new in times["new"].items()
    }


def interval(values: list[float]) -> dict[str, Any]:
    """Median, and the narrowest interval of two of the values that holds the true one
    in 95 of 100 cases; of few values all that there is."""
    values, n = sorted(values), len(values)
    k = 0
    while 2 * sum(math.comb(n, i) for i in range(k + 2)) / 2**n <= 0.05:
        k += 1
    outside = 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return {
        "median": round(statistics.median(values), 4),
        "interval": [round(values[k], 4), round(values[n - 1 - k], 4)],
        "probability": round(1 - outside, 3),
        "values": [round(each, 4) for each in values],
    }


def processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(": ")[2] for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def commit(folder: Path) -> str:
    """The commit that a folder is at; "unknown" when git does not say."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or (
        "unknown"
    )


def main() -> None:
    """Measure both in turn and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", type=Path, help="folder of the older checkout")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60, help="of training digits")
    parser.add_argument("--large", type=int, default=3, help="of the large network")
    parser.add_argument("--chain", type=int, default=50, help="steps of a chain")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", choices=("new", "old"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args)
        return
    if not (args.old and args.out):
        parser.error("give --old and --out")
    folders = {"new": ROOT, "old": args.old.resolve()}
    commits = {which: commit(folder) for which, folder in folders.items()}
    names = ("threads", "steps", "large", "chain")
    sizes = [f"--{name}={getattr(args, name)}" for name in names]
    found: dict[str, list[dict[str, Any]]] = {"new": [], "old": []}
    for number in range(args.rounds):
        for which in ("old", "new") if number % 2 else ("new", "old"):
            command = [sys.executable, __file__, f"--measure={which}", *sizes]
            where = {**os.environ, "PYTHONPATH": str(folders[which])}
            done = subprocess.run(command, capture_output=True, text=True, env=where)
            if done.returncode:
                sys.exit(f"{which}: {done.stderr}")
            found[which].append(json.loads(done.stdout.splitlines()[-1]))
        print(f"round {number}", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "command": f"python benchmarks/house.py --old OLD --rounds {args.rounds} "
        + " ".join(sizes),
        "commits": commits,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "device": f"{processor()}, {args.threads} threads",
        "rounds": args.rounds,
        "operations beside the network": {w: found[w][0]["operations"] for w in found},
    }
    for clock in ("wall", "processor"):
        result[f"seconds, {clock}"] = compared(found, clock)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for clock in ("wall", "processor"):
        print(f"new to old, {clock} time")
        for name, row in result[f"seconds, {clock}"].items():
            ratio = row["new to old"]
            low, high = ratio["interval"]
            print(f"  {name:34s} {ratio['median']:.3f}  {low:.3f} .. {high:.3f}")


if __name__ == "__main__":
    main()
