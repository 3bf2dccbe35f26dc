"""What a busy machine costs: the same work alone and beside processes that never rest.

    python benchmarks/busy.py --out benchmarks/results/busy.json

Threads that share a loop wait for each other; while they wait they spin, and on a busy
machine they spin for as long as another process has their partner's core. Each work is
done with several settings of torch's threads, in turns, so that what else happens on
the machine hits all of them alike. The quickest round counts when alone, the median
beside others. Ratios are to torch's own setting, alone. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "torch's own": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "short spins": {"GOMP_SPINCOUNT": "3000"},
    "no spins": {"OMP_WAIT_POLICY": "PASSIVE"},
}
# What could be set outside would change all of them.
NEUTRAL = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
REPORT = "seconds of work: "


def digits(steps: int, *, chooses: bool) -> float:
    """Seconds for some steps on digits; `chooses` threads as `train` does, or not."""
    from ddpm_lit import fit, preset
    from ddpm_lit.data import load_digits
    from ddpm_lit.machine import Machine
    from ddpm_lit.runs import build_denoiser
    from ddpm_lit.team import join_team
    from ddpm_lit.training import State

    recipe, data = preset("digits", train_steps=steps + 5), load_digits()
    with join_team("cpu") as team:
        machine = team if chooses else Machine("cpu")
        state = State.fresh(build_denoiser(recipe, data), recipe.optim, machine)
        for _ in fit(state, data, recipe.optim, machine):
            if state.step == 5:
                started = time.perf_counter()
        return time.perf_counter() - started


def network(steps: int, shape: tuple[int, ...]) -> float:
    """Seconds for some steps with the network of the preset mnist."""
    import torch

    from ddpm_lit import UNet, preset

    model, images = UNet(preset("mnist").model), torch.randn(shape)
    t = torch.full((len(images),), 10)
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            started = time.perf_counter()
        model(images, t).square().mean().backward()
    return time.perf_counter() - started


def chapter(name: str) -> float:
    """Seconds for the cells of a chapter, in a folder where it leaves no figures."""
    sys.path.insert(0, str(ROOT / "tools"))
    import matplotlib
    from IPython.core.interactiveshell import InteractiveShell

    from chapters import read_chapter

    matplotlib.use("agg")
    shell = InteractiveShell.instance()
    cells = read_chapter(ROOT / "chapters" / name).cells
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in cells:
            assert shell.run_cell(cell.source, silent=True).success, cell.source
    return time.perf_counter() - started


WORKS = {
    "digits, 40 steps of the loop": lambda: digits(40, chooses=False),
    "digits, 40 steps, threads chosen": lambda: digits(40, chooses=True),
    "network of the preset mnist, batch 2, 3 steps": lambda: network(3, (2, 1, 28, 28)),
    "chapters/04-reverse-process.md": lambda: chapter("04-reverse-process.md"),
}


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that never rest."""
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(work: str, setting: str, limit: float) -> float:
    """One process that does the work; `limit` seconds when it takes longer."""
    env = {k: v for k, v in os.environ.items() if k not in NEUTRAL}
    env |= {"PYTHONPATH": str(ROOT), **SETTINGS[setting]}
    command = [sys.executable, __file__, "--work", work]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return limit
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.rpartition(REPORT)[2])


def measure(work: str, others: int, rounds: int, limit: float) -> dict[str, Any]:
    clock: dict[str, dict[int, list[float]]] = {
        s: {0: [], others: []} for s in SETTINGS
    }
    for _ in range(rounds):
        for load in (0, others):
            with busy(load):
                for setting in SETTINGS:
                    spent = seconds(work, setting, limit)
                    clock[setting][load].append(spent)
                    print(
                        f"{work}, {setting}, {load} others: {spent:.1f} s", flush=True
                    )
    own = min(clock["torch's own"][0])
    return {
        setting: {
            "alone": round(min(found[0]) / own, 2),
            f"beside {others}": round(statistics.median(found[others]) / own, 2),
            "seconds alone": round(min(found[0]), 2),
        }
        for setting, found in clock.items()
    }


def main() -> None:
    """Measure, print, and write a JSON file when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--others", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=float, default=120, help="seconds for one work")
    parser.add_argument("--only", default="", help="works whose name contains this")
    parser.add_argument("--work", choices=WORKS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.work:
        print(f"{REPORT}{WORKS[args.work]()}")
        return
    import torch

    before = os.getloadavg()[0]
    works = [work for work in WORKS if args.only in work]
    result = {
        "command": "python " + " ".join(["benchmarks/busy.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load before the first round": round(before, 2),
        "time over that of torch's own setting, alone": {
            work: measure(work, args.others, args.rounds, args.limit) for work in works
        },
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
