"""Time and memory of one training step beside PyTorch autograd at equal active width, 784-256-10.

Run: python benchmarks/step_time.py [--json] [--threads 2] [--repeats 60]
Steps of both are timed in turn; a ratio is the median of the ratios of neighbouring steps. Memory is the allocator's
peak inside the error pass, by PyTorch's profiler.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from brodmann import SGD, Adam, AreaLinear, Context, Network, mlp
from brodmann.baselines import Backpropagation

IN, WIDTH, OUT = 784, 256, 10
LEAN: dict[str, Any] = {"shared": "off", "router": {"learned": False}}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "SGD, 16 areas, shared part off, projection frozen": ({"areas": 16, "update": SGD(), **LEAN}, "sgd"),
    "SGD, 256 areas, shared part off, projection frozen": ({"areas": 256, "update": SGD(), **LEAN}, "sgd"),
    "SGD, 1 area": ({"areas": 1, "update": SGD()}, "sgd"),
    "SGD, default configuration": ({"areas": 16, "update": SGD()}, "sgd"),
    "Adam, default configuration": ({"areas": 16, "update": Adam(0.2)}, "adam"),
}


def areas_touched(network: Network, x: Tensor) -> list[int]:
    """Returns the number of areas that a batch uses in each layer."""
    touched, h, context = [], x, Context()
    for layer in network.body.layers:  # type: ignore[union-attr]
        if isinstance(layer, AreaLinear) and layer.router is not None:
            touched.append(len(layer.router.route(h).groups.segments))
        h, _ = layer.trace(h, context)
    return touched


def seconds(step: Callable[[], object]) -> float:
    """Times one step."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def measure(options: dict[str, Any], optimiser: str, batch: int, repeats: int) -> dict[str, Any]:
    """Times a configuration against its twin."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, IN), torch.randint(0, OUT, (batch,))
    network = Network(mlp(IN, OUT, width=WIDTH, **options))
    twin = Backpropagation(IN, OUT, width=WIDTH, optimiser=optimiser)

    def ours() -> object:
        return network.learn(x, y, lr=1e-4)

    def theirs() -> object:
        return twin.learn_with_output(x, y, lr=1e-4)

    for _ in range(10):
        ours()
        theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return {
        "batch": batch,
        "areas_touched": areas_touched(network, x),
        "step_us": 1e6 * statistics.median(a for a, _ in pairs),
        "autograd_us": 1e6 * statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
        **peak_inside_learn(network, x, y),
    }


def peak_inside_learn(network: Network, x: Tensor, y: Tensor) -> dict[str, int]:
    """Returns the allocator's peak in bytes inside the error pass, and the scratch of one area plus the errors."""
    context = Context(lr=1e-4)
    output, trace = network.body.trace(x, context)
    error, _ = network.output_error(output, y)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        network.body.learn(trace, error, context)
    held = peak = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    area = 4 * IN * WIDTH
    errors = 4 * len(x) * (WIDTH + OUT)
    return {"peak_bytes": peak, "one_area_plus_errors_bytes": area + errors}


def main() -> None:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [
        {"configuration": name, **measure(settings, optimiser, batch, options.repeats)}
        for name, (settings, optimiser) in ROWS.items()
        for batch in (16, 128)
    ]
    if options.json:
        print(json.dumps({"threads": options.threads, "torch": torch.__version__, "rows": rows}))
        return
    table = Table("configuration", "batch", "touched", "step us", "autograd us", "ratio", "peak kB", "area+errors kB")
    for row in rows:
        table.add_row(
            row["configuration"],
            str(row["batch"]),
            ", ".join(map(str, row["areas_touched"])),
            f"{row['step_us']:.0f}",
            f"{row['autograd_us']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['peak_bytes'] / 1e3:.0f}",
            f"{row['one_area_plus_errors_bytes'] / 1e3:.0f}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
