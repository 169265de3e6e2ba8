"""Ablations behind the defaults: validation accuracy of each variant, several data sets and seeds.

Run: python benchmarks/defaults.py [--sets digits satimage letter] [--seeds 3] [--epochs 20] [--out FILE.jsonl]
Only validation parts are read. Sets other than digits need BRODMANN_DATA.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch

from brodmann import Adam, Network, mlp
from brodmann.data import load
from brodmann.telemetry import area_usage
from brodmann.training import Schedule, Trainer

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "one area": {"areas": 1},
    "gated": {"gated": True},
    "projection frozen": {"router": {"learned": False}},
    "shared part frozen": {"shared": "frozen"},
    "shared part off": {"shared": "off"},
    "balance 0.01": {"router": {"balance_rate": 0.01}},
    "pooling 1": {"pooling": 1.0},
    "pooling 5": {"pooling": 5.0},
    "pooling 20": {"pooling": 20.0},
    "decay 0.1": {"decay": 0.1},
    "decay 0.3": {"decay": 0.3},
    "decay 1": {"decay": 1.0},
    "decay 0.1, pooling 5": {"decay": 0.1, "pooling": 5.0},
    "lr 3e-3": {"lr": 3e-3},
    "lr 3e-3, decay 0.1": {"lr": 3e-3, "decay": 0.1},
    "lr 3e-3, decay 0.3": {"lr": 3e-3, "decay": 0.3},
    "lr 3e-3, one area": {"lr": 3e-3, "areas": 1},
    "tau 0.1": {"router": {"temperature": 0.1}},
    "tau 1": {"router": {"temperature": 1.0}},
    "dimension 8": {"router": {"dimension": 8}},
    "dimension 32": {"router": {"dimension": 32}},
    "one route for all layers": {"routing": "network"},
    "feedback per area": {"feedback": "kolen-pollack-per-area"},
    "transpose": {"feedback": "transpose"},
}


def main() -> None:
    """Prints a table of mean and standard deviation over seeds, and writes a row per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["digits", "satimage", "letter"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out")
    options = parser.parse_args()
    for name in options.sets:
        data = load(name)
        for variant in options.variants:
            scores, effective = [], []
            for seed in range(options.seeds):
                split = data.split(0.2, seed)
                torch.manual_seed(seed)
                settings = dict(VARIANTS[variant])
                lr = settings.pop("lr", 1e-3)
                update = Adam(settings.pop("decay", 0.0))
                body = mlp(split.x_train.shape[1], data.outputs, update=update, **settings)
                network = Network(body)
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
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            print(
                f"{name:10} {variant:26} {statistics.mean(scores):6.2f} +- {spread:.2f}  areas {effective[0]}",
                flush=True,
            )


if __name__ == "__main__":
    main()
