"""Time of one training step: against its limit on this machine, autograd, and mixtures of experts under autograd.

Run: python benchmarks/step_time.py [--json] [--threads 2] [--repeats 60] [--rows TEXT] [--compiled]
Steps are captured ones; ordinary ones, as of `Network.learn`, are timed as well. A network and its rivals take turns in
blocks of ten steps, so that each runs with its own weights in the caches, as in training; a ratio is the median of the
ratios of neighbouring blocks, and that to mixtures is to the faster one. The limit is the larger of bytes over measured
bandwidth and operations over measured peak, see roofline.py. With --compiled the dense network's loss is compiled by
`torch.compile`, which makes its steps slower where it was tried (docs/log.md).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from output import Result, markdown, show
from rivals import GroupedMixture, ListedMixture, autograd_step
from roofline import Roofline
from roofline import measure as measure_roofline
from torch import Tensor
from turns import ratio, rounds

from brodmann import SGD, Adam, AreaLinear, Captured, Network, Routed, mlp, residual_mlp
from brodmann.baselines import Backpropagation
from brodmann.bench.cost import learning_operations
from brodmann.feedback import KolenPollack
from brodmann.network import routers

LEAN: dict[str, Any] = {"shared": "off", "router": {"learned": False}}


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    name: str
    batch: int
    options: dict[str, Any] = field(default_factory=dict)
    optimiser: str = "sgd"
    inputs: int = 784
    width: int = 256
    depth: int = 2
    residual: bool = False
    mixture: bool = False
    target: float | None = None


def lean(areas: int) -> dict[str, Any]:
    return {"areas": areas, **LEAN}


SETTINGS = [
    Setting("16 areas, lean", 16, lean(16), target=1.5, mixture=True),
    Setting("16 areas, lean", 128, lean(16), target=1.1, mixture=True),
    Setting("16 areas, lean, bfloat16", 128, {**lean(16), "storage": "bfloat16"}, target=0.8),
    Setting("256 areas, lean", 16, lean(256)),
    Setting("256 areas, lean", 128, lean(256), mixture=True),
    Setting("1 area", 16, {"areas": 1}, target=0.6),
    Setting("1 area", 128, {"areas": 1}, target=0.6),
    Setting("1 area of 8 units, 8 inputs", 16, {"areas": 1}, inputs=8, width=8),  # nothing to compute: calls alone
    Setting("16 areas, default", 16, {"areas": 16}),
    Setting("16 areas, default", 128, {"areas": 16}),
    Setting("16 areas, default, Adam", 16, {"areas": 16}, "adam"),
    Setting("16 areas, default, Adam", 128, {"areas": 16}, "adam"),
    Setting("32 layers of 256, 16 areas, lean", 128, lean(16), inputs=256, depth=32, residual=True, target=1.3),
    Setting("128 layers of 256, 1 area", 128, {"areas": 1}, inputs=256, depth=128, residual=True, target=1.0),
]


@dataclass(frozen=True)
class Work:
    """What a step must at least move and compute.

    Attributes:
        read: Bytes of weights and activations that are read.
        updated: Bytes of weights and optimiser state that are read and written.
        operations: Floating-point operations.
    """

    read: float
    updated: float
    operations: float


def work_of(network: Network, x: Tensor) -> tuple[Work, list[int]]:
    """Counts the work of a step on a batch, and the areas that it touches in each layer."""
    touched: dict[AreaLinear, int] = {}

    def keep(part: AreaLinear | Routed, arguments: tuple[Any, ...]) -> None:
        assert part.router is not None
        count = len(part.router.route(arguments[0]).groups.present)
        touched.update({layer: count for layer in part.modules() if isinstance(layer, AreaLinear)})

    parts = [part for part in network.modules() if isinstance(part, AreaLinear | Routed) and part.router is not None]
    hooks = [part.register_forward_pre_hook(keep) for part in parts]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    read = updated = 0.0
    for _, layer in network.area_layers():
        count = touched.get(layer, 0)
        one = layer.in_features * layer.out_features
        own = layer.areas.weight if layer.areas is not None else None
        maps = [(count, own)] if own is not None else []
        maps += [(1, layer.shared)] if layer.shared is not None else []
        for number, slab in maps:
            size = slab.value.element_size()
            state = 8 if layer.update_rule.state_shapes((1,)) else 0
            read += number * one * size
            updated += number * one * (size + state)
        if isinstance(layer.feedback, KolenPollack):
            size = layer.feedback.shared.value.element_size() if layer.feedback.shared is not None else 4
            state = 8 if layer.update_rule.state_shapes((1,)) else 0
            read += one * size
            updated += one * (size + state)
        elif layer.feedback is not None:
            read += one * 4
        read += 4 * len(x) * 2 * (layer.in_features + layer.out_features)
    return Work(read, updated, learning_operations(network, x[:1]) * len(x)), list(touched.values())


def measure(setting: Setting, roofline: Roofline, repeats: int, *, compiled: bool) -> dict[str, Any]:
    """Times a setting, its dense twin of equal active width and, where asked, the mixtures of experts."""
    torch.manual_seed(0)
    x, y = torch.randn(setting.batch, setting.inputs), torch.randint(0, 10, (setting.batch,))
    build = residual_mlp if setting.residual else mlp
    rule = SGD() if setting.optimiser == "sgd" else Adam(decay=0.2)
    depth, width = setting.depth, setting.width
    network = Network(build(setting.inputs, 10, depth=depth, width=width, update=rule, **setting.options))
    # The package's own learner checks what it is given and returns, which would be held against autograd.
    dense = Backpropagation(setting.inputs, 10, depth=depth, width=width, residual=setting.residual).body
    by_autograd = partial(autograd_step(dense, setting.optimiser, lr=1e-4, compiled=compiled), x, y)
    captured = Captured(network)
    steps: list[Callable[[], object]] = [
        lambda: captured.learn(x, y, lr=1e-4),
        by_autograd,
        lambda: network.learn(x, y, lr=1e-4),
    ]
    if setting.mixture:
        kinds = (GroupedMixture, ListedMixture)
        mixtures = [kind(setting.inputs, width, 10, setting.options["areas"]) for kind in kinds]
        steps += [partial(autograd_step(mixture, setting.optimiser, lr=1e-4), x, y) for mixture in mixtures]
    times = rounds(max(5, repeats // 10) if depth > 2 else repeats, *steps)
    if not captured.is_captured:
        raise SystemExit(f"{setting.name}: the step is not captured: {captured.refusal}.")
    work, touched = work_of(network, x)
    limit = roofline.seconds(work.read, work.updated, work.operations)
    ours = statistics.median(times[0])
    return {
        "setting": setting.name,
        "batch": setting.batch,
        "touched": touched[:2],
        "step_us": 1e6 * ours,
        "limit_us": 1e6 * limit,
        "over_limit": ours / limit,
        "ordinary_us": 1e6 * statistics.median(times[2]),
        "dense_us": 1e6 * statistics.median(times[1]),
        "ratio": ratio(times[0], times[1]),
        "target": setting.target,
        "mixture_ratio": max((ratio(times[0], own) for own in times[3:]), default=None),  # to the faster one
        "megabytes": (work.read + 2 * work.updated) / 1e6,
    }


def router_share(areas: int, repeats: int) -> dict[str, Any]:
    """Returns the share of a step that routing takes: choosing and grouping, with a frozen projection."""
    torch.manual_seed(0)
    x, y = torch.randn(128, 784), torch.randint(0, 10, (128,))
    network = Network(mlp(784, 10, width=256, areas=areas, update=SGD(), **LEAN))
    ((_, router),) = routers(network)
    captured = Captured(network)
    times = rounds(repeats, lambda: router.route(x).groups, lambda: captured.learn(x, y, lr=1e-4))
    return {"areas": areas, "share": ratio(times[0], times[1])}


def table(result: Result) -> str:
    """Returns a Markdown table with a row per setting, and what routing takes."""
    columns = ("setting", "batch", "areas touched", "step (us)", "limit (us)", "times the limit", "ordinary (us)")
    rows = [
        [
            row["setting"],
            str(row["batch"]),
            ", ".join(map(str, row["touched"])),
            f"{row['step_us']:.0f}",
            f"{row['limit_us']:.0f}",
            f"{row['over_limit']:.2f}" if row["limit_us"] > 1 else "",
            f"{row['ordinary_us']:.0f}",
            f"{row['dense_us']:.0f}",
            f"{row['ratio']:.2f}",
            "" if row["target"] is None else f"{row['target']}",
            "" if row["mixture_ratio"] is None else f"{row['mixture_ratio']:.3f}",
        ]
        for row in result["rows"]
    ]
    text = markdown((*columns, "dense (us)", "ratio", "target", "of mixture"), rows)
    if result["routing"]:
        shares = " and ".join(f"{100 * row['share']:.0f} % with {row['areas']}" for row in result["routing"])
        text += f"\n\nRouting takes {shares} areas of a lean step."
    return text


def main() -> None:
    """Prints tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--compiled", action="store_true", help="compile the dense network's loss")
    parser.add_argument("--rows", default="", help="only settings whose name holds this text")
    options = parser.parse_args()
    chosen = [setting for setting in SETTINGS if options.rows in setting.name]
    if not chosen:
        names = "; ".join(dict.fromkeys(setting.name for setting in SETTINGS))
        parser.error(f"expected a part of one of these names, got {options.rows!r}: {names}")
    torch.set_num_threads(options.threads)
    roofline = measure_roofline(options.threads)
    rows = [measure(setting, roofline, options.repeats, compiled=options.compiled) for setting in chosen]
    shares = [] if options.rows else [router_share(areas, options.repeats) for areas in (16, 4096)]
    result = {"threads": options.threads, "torch": torch.__version__, "rows": rows, "routing": shares}
    show(result, table, as_json=options.json)


if __name__ == "__main__":
    main()
