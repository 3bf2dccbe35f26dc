"""How many steps the digits need: quality against the number of calls.

    python benchmarks/digits_steps.py --keep FOLDER --out FILE.json

For the three default models of benchmarks/digits_ablation.py, which are in FOLDER or
are trained now, both variances, and chains of 2 to 250 steps. Three times 360
pictures are made, as many as there are held-out digits, so that the Frechet distances
of pictures and of held-out digits, which depend on the number, can be compared.
"""

from __future__ import annotations

import json

from digits_ablation import SEEDS, VARIANTS, begin, pictures, trained

from ddpm_lit.recipes import Optim

STEPS = (2, 5, 10, 20, 50, 100, 250)
COUNT = 360


def main() -> None:
    """Make and score pictures for every length, and write one JSON file."""
    args, judge, result = begin(__doc__, "--keep", COUNT)
    folder = args.keep / "default"
    for steps in STEPS:
        for seed in SEEDS:
            variant, length = VARIANTS["default"], Optim().train_steps
            model, _ = trained(variant, length, seed, folder / str(seed))
            for variance in ("beta", "beta_tilde"):
                made = pictures(model, 3 * COUNT, steps, variance=variance)
                scores = [judge.score(part) for part in made.split(COUNT)]
                means = {
                    k: round(sum(s[k] for s in scores) / len(scores), 4)
                    for k in scores[0]
                }
                row = {"steps": steps, "seed": seed, "variance": variance, **means}
                print(row, flush=True)
                result["runs"].append(row)
                args.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
