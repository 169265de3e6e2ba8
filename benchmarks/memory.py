"""Peak memory of a step beyond the persistent weights: 128 layers of 256, one area, batch 128, beside its rivals.

Run: python benchmarks/memory.py [--json] [--depth 128] [--width 256] [--batch 128] [--encoder 12]
With --encoder, of a transformer's encoder of so many layers, converted: 128 units, 16 samples of 64 steps.
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
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from brodmann import SGD, Network, from_torch, residual_mlp
from brodmann.baselines import Backpropagation

SEGMENTS = (2, 4, 8, 11, 12, 16, 20, 24, 32)


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
    """The dense network, recomputed in segments."""

    def __init__(self, network: nn.Sequential, segments: int) -> None:
        super().__init__()
        self.network, self.segments = network, segments

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_(True)
        return checkpoint_sequential(self.network, self.segments, x, use_reentrant=False)


def measured(name: str, network: nn.Module, step: Callable[[], object]) -> dict[str, Any]:
    return {"method": name, "persistent_bytes": bytes_of(network), "peak_bytes": peak_bytes(network, step)}


def measure(depth: int, width: int, batch: int) -> list[dict[str, Any]]:
    """Measures the peak of every method; recomputed under autograd, with the best of several numbers of segments."""
    x, y = torch.randn(batch, width), torch.randint(0, 10, (batch,))
    lean: dict[str, Any] = {"shared": "off", "router": {"learned": False}}

    def of_areas(areas: int, recompute: bool) -> dict[str, Any]:
        torch.manual_seed(0)
        options: dict[str, Any] = {"recompute": recompute, **({} if areas == 1 else lean)}
        network = Network(residual_mlp(width, 10, depth=depth, width=width, areas=areas, update=SGD(), **options))
        network.learn(x, y, lr=1e-4)  # areas exist from now on
        name = f"Brodmann, {areas} area{'s' if areas > 1 else ''}{', recomputed' if recompute else ''}"
        return measured(name, network, lambda: network.learn(x, y, lr=1e-4))

    def in_segments(count: int) -> dict[str, Any]:
        network = Segments(dense(depth, width), count)
        step = update_in_hooks(network, 1e-4)
        return measured(f"the same, recomputed in {count} segments", network, lambda: step(x.clone(), y))

    twin, hooked = dense(depth, width), dense(depth, width)
    plain, in_hooks = autograd_step(twin, "sgd", 1e-4), update_in_hooks(hooked, 1e-4)
    return [
        *(of_areas(areas, recompute) for areas in (1, 16) for recompute in (False, True)),
        measured("autograd and torch.optim.SGD", twin, lambda: plain(x, y)),
        measured("autograd, SGD in backward hooks", hooked, lambda: in_hooks(x, y)),
        min((in_segments(count) for count in SEGMENTS if count <= depth), key=lambda row: row["peak_bytes"]),
    ]


class Encoder(nn.Module):
    """An encoder, each layer of which may be recomputed under autograd."""

    def __init__(self, layers: int, *, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.below, self.readout = nn.Linear(32, 128), nn.Linear(128, 10)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.below(x)
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.recompute else layer(x)
        return self.readout(x.mean(1))  # type: ignore[no-any-return]


def measure_encoder(layers: int) -> list[dict[str, Any]]:
    """Measures the peak of a converted encoder, and of the same under autograd."""
    x, y = torch.randn(16, 64, 32), torch.randint(0, 10, (16,))
    rows = []
    for recompute in (False, True):
        body = from_torch(
            Encoder(layers, recompute=False), (64, 32), areas=1, feedback="transpose", update=SGD(), recompute=recompute
        )
        network, name = Network(body), f"Brodmann, transpose{', recomputed' if recompute else ''}"
        rows.append(measured(name, network, lambda network=network: network.learn(x, y, lr=1e-4)))
    for recompute in (False, True):
        encoder = Encoder(layers, recompute=recompute)
        step = update_in_hooks(encoder, 1e-4)
        name = f"autograd, SGD in backward hooks{', every layer recomputed' if recompute else ''}"
        rows.append(measured(name, encoder, lambda step=step: step(x, y)))
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
    parser.add_argument("--encoder", type=int, metavar="LAYERS")
    options = parser.parse_args()
    rows = measure_encoder(options.encoder) if options.encoder else measure(options.depth, options.width, options.batch)
    rival = next(row for row in rows if "hooks" in row["method"])
    for row in rows:
        row["ratio_to_hooks"] = row["peak_bytes"] / rival["peak_bytes"]
    result = {"depth": options.depth, "width": options.width, "batch": options.batch, "rows": rows}
    show(result, table, as_json=options.json)


if __name__ == "__main__":
    main()
