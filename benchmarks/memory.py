"""Peak memory of a step beyond the persistent weights: 128 layers of 256, one area, batch 128, beside its rivals.

Run: python benchmarks/memory.py [--json] [--depth 128] [--width 256] [--batch 128]
Peaks are the allocator's, by PyTorch's profiler: they hold every tensor, and nothing of Python or the libraries.
What an optimiser leaves until the next step counts too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from output import Result, markdown, show
from rivals import autograd_step, update_in_hooks
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint_sequential

from brodmann import SGD, Network, residual_mlp
from brodmann.baselines import Backpropagation


def peak_bytes(network: nn.Module, step: Callable[[], object]) -> int:
    """Returns how far allocations of two steps rise above where they stood before, without gradients.

    The second meets what the first has left. The profiler does not see the end of what began before it.
    """
    step()
    network.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
        step()
    held = peak = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])


def dense(depth: int, width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return Backpropagation(width, 10, depth=depth, width=width, residual=True, optimiser="sgd").body


class Segments(nn.Module):
    """The dense network, recomputed in as many segments as ours."""

    def __init__(self, network: nn.Sequential, depth: int) -> None:
        super().__init__()
        self.network, self.segments = network, max(2, round(depth**0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_(True)
        return checkpoint_sequential(self.network, self.segments, x, use_reentrant=False)


def measure(depth: int, width: int, batch: int) -> list[dict[str, Any]]:
    """Measures the peak of every method."""
    x, y = torch.randn(batch, width), torch.randint(0, 10, (batch,))
    rows = []

    def note(name: str, network: nn.Module, step: Callable[[], object]) -> None:
        peak = peak_bytes(network, step)
        rows.append({"method": name, "persistent_bytes": bytes_of(network), "peak_bytes": peak})

    lean: dict[str, Any] = {"shared": "off", "router": {"learned": False}}
    for areas, recompute in ((1, False), (1, True), (16, False), (16, True)):
        torch.manual_seed(0)
        options: dict[str, Any] = {"recompute": recompute, **({} if areas == 1 else lean)}
        network = Network(residual_mlp(width, 10, depth=depth, width=width, areas=areas, update=SGD(), **options))
        network.learn(x, y, lr=1e-4)  # areas exist from now on

        def learn(network: Network = network) -> None:
            network.learn(x, y, lr=1e-4)

        note(
            f"Brodmann, {areas} area{'s' if areas > 1 else ''}{', recomputed' if recompute else ''}",
            network,
            learn,
        )
    twin = dense(depth, width)
    plain = autograd_step(twin, "sgd", 1e-4)
    note("autograd and torch.optim.SGD", twin, lambda: plain(x, y))
    hooked = dense(depth, width)
    in_hooks = update_in_hooks(hooked, 1e-4)
    note("autograd, SGD in backward hooks", hooked, lambda: in_hooks(x, y))
    segments = Segments(dense(depth, width), depth)
    recomputed = update_in_hooks(segments, 1e-4)
    note("the same, recomputed", segments, lambda: recomputed(x.clone(), y))
    return rows


def table(result: Result) -> str:
    """Returns a Markdown table with a row per method."""
    columns = ("method", "persistent (MB)", "peak beyond (MB)", "of SGD in hooks", "total (MB)")
    rows = [
        [
            row["method"],
            f"{row['persistent_bytes'] / 1e6:.1f}",
            f"{row['peak_bytes'] / 1e6:.1f}",
            f"{row['ratio_to_hooks']:.2f}",
            f"{(row['persistent_bytes'] + row['peak_bytes']) / 1e6:.1f}",
        ]
        for row in result["rows"]
    ]
    return markdown(columns, rows)


def main() -> None:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    rows = measure(options.depth, options.width, options.batch)
    rival = next(row for row in rows if "hooks" in row["method"])
    for row in rows:
        row["ratio_to_hooks"] = row["peak_bytes"] / rival["peak_bytes"]
    result = {"depth": options.depth, "width": options.width, "batch": options.batch, "rows": rows}
    show(result, table, as_json=options.json)


if __name__ == "__main__":
    main()
