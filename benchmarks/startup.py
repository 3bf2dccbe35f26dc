"""How long the package takes to start: `make bench`.

Reports medians of whole processes, and the share that `import ddpm_lit` adds to a
bare interpreter. The first use of a name loads torch: how long torch takes alone stands
beside it. Nothing here asserts; tests assert only what is not loaded.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str], runs: int) -> float:
    """Median wall-clock seconds of a whole process."""
    clock = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        clock.append(time.perf_counter() - started)
    return statistics.median(clock[1:])


def main() -> None:
    """Measure, print, and write a JSON file when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    bare = seconds([sys.executable, "-c", "pass"], args.runs)
    imported = seconds([sys.executable, "-c", "import ddpm_lit"], args.runs)
    first = [sys.executable, "-c", "import ddpm_lit; ddpm_lit.train"]
    torch = seconds([sys.executable, "-c", "import torch"], args.runs)
    used = seconds(first, args.runs)
    helped = seconds([sys.executable, "-m", "ddpm_lit", "--help"], args.runs)
    result = {
        "command": "python benchmarks/startup.py",
        "python": platform.python_version(),
        "import ddpm_lit adds, seconds": round(imported - bare, 4),
        "import torch, seconds": round(torch, 4),
        "import ddpm_lit; ddpm_lit.train, seconds": round(used, 4),
        "ddpm-lit --help, seconds": round(helped, 4),
        "bare interpreter, seconds": round(bare, 4),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
