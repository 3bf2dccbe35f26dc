"""A pass through the network of Stable Diffusion 1, beside diffusers; and its loading.

    python benchmarks/listeners.py --threads 2 --out benchmarks/results/listeners.json

Both networks have the same random weights at the full size, and take turns; steps of
one round are compared as pairs. Loading is measured in a process of its own, as the
most memory that it held beyond what the imports took, over the size of the weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SD_1 = {
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
}
SCHEDULER = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear"}


def write(folder: Path) -> int:
    """Write a network of theirs with random weights; its size in bytes."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    net = UNet2DConditionModel(**SD_1)
    net.save_pretrained(folder)
    text = json.dumps({**SCHEDULER, "beta_start": 0.00085, "beta_end": 0.012})
    (folder / "scheduler_config.json").write_text(text)
    return sum(p.numel() * 4 for p in net.parameters())


def loaded(folder: Path) -> float:
    """Bytes that a process held at most while it opened the folder, with its files."""
    code = (
        "import re, sys; from pathlib import Path; "
        "from ddpm_lit.hub import from_diffusers; "
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', "
        "Path('/proc/self/status').read_text())[1]); "
        "a = peak(); m = from_diffusers(sys.argv[1], sys.argv[1]); "
        "s = sum(float(p.flatten()[::1024].sum()) for p in m.parameters()); "
        "print(peak() - a)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def networks(folder: Path, edge: int) -> dict[str, Callable[[], Any]]:
    """A pass through each, on the same latents; they must agree."""
    from diffusers import UNet2DConditionModel

    from ddpm_lit.hub import from_diffusers

    theirs = UNet2DConditionModel.from_pretrained(folder).eval().requires_grad_(False)
    ours = from_diffusers(folder, folder).net
    g = torch.Generator().manual_seed(0)
    z, words = (
        torch.randn(*n, generator=g) for n in ((2, 4, edge, edge), (2, 77, 768))
    )
    t = torch.tensor([500, 500])
    calls = {
        "ours": lambda: ours(z, t + 1, context=words),
        "diffusers": lambda: theirs(z, t, words).sample,
    }
    with torch.no_grad():
        a, b = (call() for call in calls.values())
    if float((a - b).abs().max()) > 1e-3 * float(b.abs().max()):
        raise SystemExit("the two networks answer differently")
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--edge", type=int, default=32, help="of a latent")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        size = write(folder)
        memory = loaded(folder)
        calls = networks(folder, options.edge)
        times: dict[str, list[float]] = {name: [] for name in calls}
        with torch.no_grad():
            for _ in range(options.rounds):
                for name, call in calls.items():
                    start = time.perf_counter()
                    call()
                    times[name].append(time.perf_counter() - start)
    pairs = zip(times["ours"], times["diffusers"], strict=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "device": f"{platform.machine()} CPU, {options.threads} threads",
        "torch": torch.__version__,
        "batch and edge": [2, options.edge],
        "seconds": times,
        "ours over diffusers": statistics.median(a / b for a, b in pairs),
        "memory of loading over the weights": memory / size,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
