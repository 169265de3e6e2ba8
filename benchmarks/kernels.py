"""The grouped operations against the machine: share of peak flops with many rows an area, of bandwidth with few.

Run: python benchmarks/kernels.py [--json] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from output import Result, markdown, show
from roofline import Roofline
from roofline import measure as measure_roofline

from brodmann import SGD
from brodmann.kernels import Groups, Served, Target, operations


@dataclass(frozen=True)
class Size:
    """Even areas of equal size."""

    areas: int
    rows: int
    inputs: int
    outputs: int
    dtype: torch.dtype = torch.float32


SIZES = [
    Size(16, 8, 784, 256),
    Size(16, 8, 256, 256),
    Size(256, 8, 256, 256),
    Size(1, 128, 784, 256),
    Size(16, 64, 512, 512),
    Size(16, 128, 512, 512),
    Size(16, 128, 512, 512, torch.bfloat16),
    Size(16, 2048, 288, 64),  # patches of images
    Size(4, 512, 1024, 1024),
    Size(4, 512, 1024, 1024, torch.bfloat16),
]


def seconds(work: Callable[[], object], repeats: int = 60) -> float:
    """Returns the median time of some work, after warming up."""
    for _ in range(10):
        work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(size: Size, roofline: Roofline) -> dict[str, Any]:
    """Times the three operations at a size."""
    torch.manual_seed(0)
    rows = size.areas * size.rows
    area = torch.arange(rows) % size.areas
    served = Served(Groups.of(area[torch.randperm(rows)], size.areas))
    weight = torch.randn(size.areas, size.outputs, size.inputs).to(size.dtype) * 0.05
    x, delta, below = torch.randn(rows, size.inputs), torch.randn(rows, size.outputs), torch.zeros(rows, size.inputs)
    kernels = operations(weight, x)
    bytes_of_weights = weight.nbytes
    activations = 4.0 * rows * (size.inputs + size.outputs)
    flops = 2.0 * rows * size.inputs * size.outputs
    moved = Target(weight, {}, 1e-6, 0.0)
    forward = seconds(lambda: kernels.forward(weight, None, served, x))
    error = seconds(lambda: kernels.add_error(weight, served, delta, below))
    update = seconds(lambda: kernels.update(SGD(), [moved], served, delta, x))
    reading = roofline.seconds(bytes_of_weights + activations, 0.0, flops)
    writing = roofline.seconds(activations, bytes_of_weights, flops)
    result: dict[str, Any] = {
        "areas": size.areas,
        "rows_per_area": size.rows,
        "map": f"{size.inputs}x{size.outputs}",
        "weights": str(size.dtype).removeprefix("torch."),
    }
    for name, took, limit in (("forward", forward, reading), ("error", error, reading), ("update", update, writing)):
        result |= {f"{name}_us": 1e6 * took, f"{name}_gflops": flops / took / 1e9, f"{name}_of_limit": limit / took}
    return result


def table(result: Result) -> str:
    """Returns time, GFLOP/s and share of the limit of every operation, as a Markdown table."""
    names = ("forward", "error", "update")
    rows = [
        [str(row["areas"]), str(row["rows_per_area"]), row["map"], row["weights"]]
        + [
            f"{row[f'{name}_us']:.0f} us, {row[f'{name}_gflops']:.0f}, {100 * row[f'{name}_of_limit']:.0f} %"
            for name in names
        ]
        for row in result["rows"]
    ]
    return markdown(("areas", "rows each", "map", "weights", *names), rows)


def main() -> None:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    roofline = measure_roofline(options.threads)
    rows = [measure(size, roofline) for size in SIZES]
    result = {"threads": options.threads, "peak_gflops": roofline.gflops, "rows": rows}
    show(result, table, as_json=options.json)


if __name__ == "__main__":
    main()
