"""The Triton kernels on a CUDA device: a step beside pure PyTorch and beside autograd of equal active width.

Not yet run on hardware. Run: python benchmarks/gpu.py [--json]. Exit status 2 where there is no device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from brodmann import SGD, Network, mlp
from brodmann.areas import slab
from brodmann.kernels import operations
from brodmann.kernels.pure import Pure

SIZES = [(16, 128, 256), (256, 128, 256), (16, 1024, 1024), (64, 4096, 1024)]
"""Areas, rows, width."""


def microseconds(work: Callable[[], object], repeats: int = 100) -> float:
    """Returns the median time of some work by the device's own clock, after warming up."""
    for _ in range(10):
        work()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(1e3 * begin.elapsed_time(end))
    return statistics.median(times)


def measure(areas: int, rows: int, width: int) -> dict[str, float]:
    """Times one learning step at a size."""
    torch.manual_seed(0)
    x, y = torch.randn(rows, 784, device="cuda"), torch.randint(0, 10, (rows,), device="cuda")
    body = mlp(784, 10, width=width, areas=areas, shared="off", update=SGD(), router={"learned": False})
    network = Network(body, lr=1e-3).to("cuda")
    triton = microseconds(lambda: network.learn(x, y))
    slab.operations = lambda weight, rows: Pure()
    pure = microseconds(lambda: network.learn(x, y), repeats=20)
    slab.operations = operations
    dense = nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10)).to("cuda")
    optimiser = torch.optim.SGD(dense.parameters(), lr=1e-3, fused=True)

    def autograd() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(dense(x), y).backward()
        optimiser.step()

    return {
        "areas": areas,
        "rows": rows,
        "width": width,
        "triton_us": triton,
        "pure_us": pure,
        "autograd_us": microseconds(autograd),
    }


def main() -> int:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "No CUDA device: nothing to time. The kernels' values were checked in Triton's interpreter.",
            file=sys.stderr,
        )
        return 2
    results = [measure(*size) for size in SIZES]
    if options.json:
        print(json.dumps({"device": torch.cuda.get_device_name(), "rows": results}))
        return 0
    table = Table("areas", "rows", "width", "triton", "pure PyTorch", "autograd, dense", title="us a step")
    for row in results:
        cells = [f"{row[name]:.0f}" for name in ("areas", "rows", "width", "triton_us", "pure_us", "autograd_us")]
        table.add_row(*cells)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
