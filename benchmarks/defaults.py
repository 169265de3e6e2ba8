"""Ablations behind the defaults: validation accuracy of each variant, several data sets and seeds.

Run: python benchmarks/defaults.py [--sets digits semeion satimage letter] [--seeds 4] [--first-seed 0] [--epochs 20]
[--depth 2] [--width 256] [--variants default ...] [--out FILE.jsonl]. Three layers and more are residual blocks.
Prints the mean over seeds, its difference from the first variant with its standard error (paired over seeds), and the
effective areas of the first seed; at the end the differences of the mean of all sets. Only validation parts are read.
Sets other than digits need BRODMANN_DATA.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from typing import Any

import torch

from brodmann import Adam, MeanSquaredError, Muon, Network, Rates, mlp, residual_mlp
from brodmann.data import load
from brodmann.mirror import mirror_weights
from brodmann.telemetry import area_usage
from brodmann.training import Schedule, Trainer

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "one area": {"areas": 1},
    "64 areas": {"areas": 64},
    "growing": {"router": {"partition": "growing"}},
    "areas at 0.03 of the rate": {"rates": Rates(areas=0.03)},
    "areas at 0.3 of the rate": {"rates": Rates(areas=0.3)},
    "areas at the full rate": {"rates": Rates(areas=1.0)},
    "a route per layer": {"routing": "layer"},
    "gated": {"gated": True},
    "projection frozen": {"router": {"learned": False}},
    "shared part frozen": {"shared": "frozen"},
    "shared part off": {"shared": "off"},
    "balance 0.001": {"router": {"balance_rate": 0.001}},
    "balance 0.01": {"router": {"balance_rate": 0.01}},
    "balance 0.03": {"router": {"balance_rate": 0.03}},
    "pooling 5": {"pooling": 5.0},
    "tau 0.1": {"router": {"temperature": 0.1}},
    "tau 1": {"router": {"temperature": 1.0}},
    "dimension 8": {"router": {"dimension": 8}},
    "dimension 32": {"router": {"dimension": 32}},
    "feedback per area": {"feedback": "kolen-pollack-per-area"},
    "feedback at 3 times the rate": {"rates": Rates(feedback=3.0)},
    "feedback at 10 times the rate": {"rates": Rates(feedback=10.0)},
    "readout starts at full size": {"readout_scale": 1.0},
    "readout starts at 0.03": {"readout_scale": 0.03},
    "feedback set by a mirror": {"mirror": 8192},
    "transpose": {"feedback": "transpose"},
    "decay 0": {"decay": 0.0},
    "decay 1": {"decay": 1.0},
    "dropout 0.2": {"dropout": 0.2},
    "lr 1e-3": {"lr": 1e-3},
    "lr 1e-2": {"lr": 1e-2},
    "lr 1e-2, dropout 0.2": {"lr": 1e-2, "dropout": 0.2},
    "squared error": {"loss": MeanSquaredError()},
    "Muon": {"rule": Muon},
    "Muon, one area": {"rule": Muon, "areas": 1},
    "Muon, lr 1e-2": {"rule": Muon, "lr": 1e-2},
}


def main() -> None:
    """Prints mean and difference from the default over seeds, and writes a row per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["digits", "semeion", "satimage", "letter"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, metavar="VARIANT", default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--out")
    options = parser.parse_args()
    build = partial(mlp if options.depth < 3 else residual_mlp, depth=options.depth, width=options.width)
    everywhere: dict[str, list[list[float]]] = {variant: [] for variant in options.variants}
    for name in options.sets:
        data = load(name)
        first: list[float] = []
        for variant in options.variants:
            scores, effective = [], []
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                split = data.split(0.25, seed)
                torch.manual_seed(seed)
                settings = dict(VARIANTS[variant])
                lr, rates, mirror = settings.pop("lr", 3e-3), settings.pop("rates", None), settings.pop("mirror", 0)
                update, loss = settings.pop("rule", Adam)(decay=settings.pop("decay", 0.2)), settings.pop("loss", None)
                body = build(split.x_train.shape[1], data.outputs, update=update, **settings)
                network = Network(body, loss, rates=rates)
                if mirror:
                    mirror_weights(network, mirror)
                train, validation = (split.x_train, split.y_train), (split.x_validation, split.y_validation)
                progress = Trainer(network, train, validation, Schedule(options.epochs, lr=lr, seed=seed)).run()
                row = progress.history[-1]
                use = [round(usage.effective, 2) for usage in area_usage(network, split.x_validation)]
                scores.append(100 * row["validation_accuracy"])
                effective.append(use)
                if options.out:
                    with open(options.out, "a") as file:
                        row = {"set": name, "variant": variant, "seed": seed, "effective_areas": use, **row}
                        file.write(json.dumps(row) + "\n")
            first = first or scores
            differences = [ours - theirs for ours, theirs in zip(scores, first, strict=True)]
            everywhere[variant].append(differences)
            print(
                f"{name:10} {variant:26} {statistics.mean(scores):6.2f}  {_spread(differences)}  areas {effective[0]}",
                flush=True,
            )
    for variant, sets in everywhere.items():
        of_seeds = [statistics.mean(seed) for seed in zip(*sets, strict=True)]
        print(f"{'all sets':10} {variant:26}         {_spread(of_seeds)}")


def _spread(differences: list[float]) -> str:
    """Returns mean and standard error."""
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    return f"{statistics.mean(differences):+.2f} +- {error:.2f}"


if __name__ == "__main__":
    main()
