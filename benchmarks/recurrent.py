"""Time of a captured step of recurrent networks beside PyTorch's own loop.

Run: python benchmarks/recurrent.py [--json] [--kinds LSTM GRU RNN] [--batches 1 32 128] [--units 128] [--repeats 30]
A network reads 28 rows of 28 numbers and answers after the last one, by Adam, on one thread. `from_torch` makes ours of
it, with one area. Both take turns; times are of the processor, so that other work counts less, and a ratio
is the median of those of neighbouring turns. With --plain the package's cells compute by PyTorch's operations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from output import Result, markdown, show
from torch import Tensor, nn
from turns import ratio, rounds

from brodmann import Adam, Captured, Network, from_torch
from brodmann.kernels import cells

STEPS, SIZE, CLASSES = 28, 28, 10


class Reader(nn.Module):
    """Reads a sequence and answers by its last step."""

    def __init__(self, kind: str, units: int) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(SIZE, units, batch_first=True)
        self.readout = nn.Linear(units, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layer(x)[0][:, -1])


def measure(kind: str, batch: int, units: int, repeats: int) -> dict[str, Any]:
    """Times both steps in turns."""
    torch.manual_seed(0)
    model = Reader(kind, units)
    x, y = torch.randn(batch, STEPS, SIZE), torch.randint(0, CLASSES, (batch,))
    captured = Captured(Network(from_torch(model, (STEPS, SIZE), areas=1, update=Adam()), lr=1e-3))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def theirs() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()

    steps: list[Callable[[], object]] = [lambda: captured.learn(x, y), theirs]
    times = rounds(repeats, *steps, block=max(2, 64 // batch), clock=time.thread_time)
    if not captured.is_captured:
        raise SystemExit(f"{kind}: the step is not captured: {captured.refusal}.")
    ours, autograd = (1e3 * statistics.median(part) for part in times)
    return {"kind": kind, "batch": batch, "step_ms": ours, "autograd_ms": autograd, "ratio": ratio(*times)}


def table(result: Result) -> str:
    """Returns a Markdown table with a row per network and batch."""
    rows = [
        [row["kind"], str(row["batch"]), f"{row['step_ms']:.2f}", f"{row['autograd_ms']:.2f}", f"{row['ratio']:.2f}"]
        for row in result["rows"]
    ]
    return markdown(("network", "batch", "step (ms)", "autograd (ms)", "ratio"), rows)


def main() -> None:
    """Prints the table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kinds", nargs="+", default=["LSTM", "GRU", "RNN"], choices=["LSTM", "GRU", "RNN"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32, 128])
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--plain", action="store_true", help="cells by PyTorch's operations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells_of_kernels = cells.takes if not options.plain else lambda *_: False
    with mock.patch.object(cells, "takes", cells_of_kernels):
        rows = [
            measure(kind, batch, options.units, options.repeats) for kind in options.kinds for batch in options.batches
        ]
    show({"torch": torch.__version__, "rows": rows}, table, as_json=options.json)


if __name__ == "__main__":
    main()
