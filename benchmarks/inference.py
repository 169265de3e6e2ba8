"""Time of inference: networks of areas, as they learned and merged, beside a dense network of equal active width.

Run: python benchmarks/inference.py [--json] [--threads 2] [--repeats 60]
784-256-10. All take turns in blocks of ten calls, each after one that is not timed; a ratio is the median of the
ratios of neighbouring blocks. Ours are captured (`brodmann.Captured`), and called as they are.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from output import Result, markdown, show
from torch import nn
from turns import ratio, rounds

from brodmann import Captured, Network, mlp

BATCHES = (1, 16, 128, 2048)
AREAS = (1, 16, 256)


def networks() -> dict[str, nn.Module]:
    """Returns a dense network, then ours, each after a step that gave every area memory of its own."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {"dense": nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))}
    for areas in AREAS:
        network = Network(mlp(784, 10, width=256, areas=areas))
        network.learn(torch.randn(4096, 784), torch.randint(0, 10, (4096,)))
        found[f"{areas} areas" if areas > 1 else "1 area"] = network
        if areas > 1:
            found[f"{areas} areas, merged"] = network.merged()
    return found


def measure(found: dict[str, nn.Module], batch: int, repeats: int) -> dict[str, Any]:
    """Times all networks on one batch."""
    x = torch.randn(batch, 784)
    with torch.inference_mode():  # not while they are built, and learn
        called: list[Any] = list(found.values())
        called += [Captured(network) for network in called[1:]]
        dense, *ours = rounds(repeats, *[lambda network=network: network(x) for network in called])
    ratios = [ratio(times, dense) for times in ours]
    names, count = list(found)[1:], len(found) - 1
    return {
        "batch": batch,
        "dense_us": 1e6 * statistics.median(dense),
        "captured": dict(zip(names, ratios[count:], strict=True)),
        "as_they_are": dict(zip(names, ratios[:count], strict=True)),
    }


def table(result: Result) -> str:
    """Returns a Markdown table with a row per batch."""
    names = list(result["rows"][0]["captured"])
    rows = [
        [
            str(row["batch"]),
            f"{row['dense_us']:.0f}",
            *[f"{row['captured'][name]:.2f} ({row['as_they_are'][name]:.2f})" for name in names],
        ]
        for row in result["rows"]
    ]
    return markdown(("batch", "dense (us)", *names), rows)


def main() -> None:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = networks()
    rows = [measure(found, batch, options.repeats) for batch in BATCHES]
    show({"threads": options.threads, "torch": torch.__version__, "rows": rows}, table, as_json=options.json)


if __name__ == "__main__":
    main()
