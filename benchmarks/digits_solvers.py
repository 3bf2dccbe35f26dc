"""How many calls the digits need: quality of each solver against calls of the model.

    python benchmarks/digits_solvers.py --model FOLDER --out FILE.json

For one model of digits, every solver of chapter 13 and Algorithm 2 (beta_tilde) makes
360 pictures from each of eight seeds, as many as there are held-out digits. The same
noise starts them all. Scores stand for each seed, and for the pictures of all seeds
together, because a Frechet distance falls with the number of pictures.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import torch
from digits_ablation import begin

from ddpm_lit.book.models import digits_model
from ddpm_lit.guidance import clipped
from ddpm_lit.samplers import ab2, ddim, ddpm, dpm2m, heun
from ddpm_lit.sampling import Noise, sample

CALLS = (3, 5, 8, 10, 15, 20, 50, 100)
SEEDS, COUNT = range(8), 360
SAMPLERS: dict[str, Any] = {
    "ddpm": partial(ddpm, variance="beta_tilde"),
    "ddim": ddim,
    "heun": heun,
    "ab2": ab2,
    "dpm2m": dpm2m,
}


def main() -> None:
    """Make and score pictures for every solver and budget, and write one JSON file."""
    args, judge, result = begin(__doc__, "--model", COUNT, seeds=len(SEEDS))
    model = digits_model(args.model)
    predict = clipped(model, model.schedule)
    for calls in CALLS:
        for name, sampler in SAMPLERS.items():
            steps = (calls + 1) // 2 if name == "heun" else calls
            made = []
            for seed in SEEDS:
                noise = Noise(seed, range(COUNT), model.size)
                how = {"sampler": sampler, "steps": steps, "noise": noise}
                end = sample(predict, model.schedule, noise(), **how)
                made.append(end.clamp(-1, 1))
            scores = [judge.score(part) for part in made]
            row: dict[str, Any] = {"calls": calls, "sampler": name}
            row["pooled"] = judge.score(torch.cat(made))
            row["each"] = {k: [s[k] for s in scores] for k in scores[0]}
            shown = {k: round(v, 3) for k, v in row["pooled"].items()}
            print(calls, name, shown, flush=True)
            result["runs"].append(row)
            args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
