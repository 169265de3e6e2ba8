"""One billion parameters: time of a step against a tenth of them, and the peak memory of the whole of it.

Run: python benchmarks/scale.py [--json] [--parameters 1e9] [--threads 2]
Both networks are 784-256-10 with one route, no shared part, plain SGD, and every area in use. A fixed assignment gives
every batch the same number of areas in either network. The memory run makes every area exist, evaluates, writes a
checkpoint, and goes on from it exactly; it runs in a process of its own, with its data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from output import Result, markdown, show

from brodmann import SGD, Network
from brodmann.builders import design
from brodmann.machine import peak_memory

BATCH, TOUCHED, STEPS = 128, 64, 200
ONE = 785 * 256 + 257 * 10


def build(parameters: float) -> Network:
    """Returns a network with room for so many parameters, in areas that do not exist yet."""
    torch.manual_seed(0)
    areas = round(parameters / ONE)
    options: dict[str, Any] = {"shared": "off", "routing": "network", "router": {"learned": False}}
    return Network.from_design(design("mlp", SGD(), in_features=784, outputs=10, width=256, areas=areas, **options))


def force(network: Network) -> torch.Tensor:
    """Makes sample i go to area i, whatever the router would choose; returns the handle on that assignment."""
    router = network.body.router  # type: ignore[union-attr]
    router.assignment = torch.zeros(BATCH, dtype=torch.int64)
    choose = router.route

    def fixed(x: torch.Tensor) -> Any:
        areas = router.assignment[: len(x)]
        return replace(choose(x), cell=areas, area=areas)

    router.route = fixed
    return router.assignment  # type: ignore[no-any-return]


def stepper(parameters: float, forced: bool) -> tuple[Callable[[], tuple[float, int]], int]:
    """Returns a function that makes a step on new inputs and returns its seconds and the areas touched; and how many
    parameters exist."""
    network = build(parameters)
    router = network.body.router  # type: ignore[union-attr]
    x, y = torch.randn(BATCH, 784), torch.randint(0, 10, (BATCH,))
    assignment = force(network)
    for first in range(0, router.areas, BATCH):  # every area exists and its memory has been touched
        assignment.copy_((torch.arange(BATCH) + first) % router.areas)
        network.learn(x, y, lr=1e-4)
    if not forced:
        del router.route
    generator = torch.Generator().manual_seed(1)

    def step() -> tuple[float, int]:
        x = torch.randn(BATCH, 784, generator=generator)
        areas = torch.randperm(router.areas, generator=generator)[:TOUCHED]
        assignment.copy_(areas[torch.arange(BATCH) % len(areas)])
        touched = len(router.route(x).groups.segments)
        began = time.perf_counter()
        network.learn(x, y, lr=1e-4)
        return time.perf_counter() - began, touched

    return step, network.total_parameters()


def compare(small: float, large: float, forced: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Times steps of both sizes in turns, so that whatever else the machine does meets both; returns their medians."""
    steps, totals = zip(*(stepper(parameters, forced) for parameters in (small, large)), strict=True)
    rounds = [[step() for step in steps] for _ in range(STEPS)]
    medians = (
        {
            "step_us": 1e6 * statistics.median(seconds for seconds, _ in own),
            "total": total,
            "touched": statistics.mean(touched for _, touched in own),
        }
        for own, total in zip(zip(*rounds, strict=True), totals, strict=True)
    )
    return next(medians), next(medians)


def sums(network: Network) -> list[torch.Tensor]:
    """Returns the sum of every row of weights: equal for equal weights, and no second copy of them."""
    return [parameter.sum(-1) for parameter in network.parameters()]


def own_bytes() -> int | None:
    """Memory of the process itself, without the pages of mapped files, which the system may drop; None if unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), None)


def whole_life(parameters: float) -> dict[str, Any]:
    """Trains until every area exists, evaluates, saves, loads, and goes on; returns the peak memory of it all."""
    x, y = torch.randn(60_000, 784), torch.randint(0, 10, (60_000,))  # as much data as MNIST
    network = build(parameters)
    router = network.body.router  # type: ignore[union-attr]
    assignment = force(network)
    for first in range(0, router.areas, BATCH):
        assignment.copy_((torch.arange(BATCH) + first) % router.areas)
        network.learn(x[:BATCH], y[:BATCH], lr=1e-3)
    del router.route
    with torch.no_grad():
        for part in torch.split(x[:10_000], 1024):
            network(part)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        began = time.perf_counter()
        network.save(path)
        saving = time.perf_counter() - began
        size = path.stat().st_size
        network.learn(x[:BATCH], y[:BATCH], lr=1e-3)
        after = sums(network)
        total = network.total_parameters()
        del network, router, assignment
        peak = peak_memory() * 2**20
        again = Network.load(path)
        own = own_bytes()
        again.learn(x[:BATCH], y[:BATCH], lr=1e-3)
        exact = all(torch.equal(*pair) for pair in zip(after, sums(again), strict=True))
    return {
        "total_parameters": total,
        "peak_bytes": peak,
        "peak_bytes_with_loading": peak_memory() * 2**20,
        "own_bytes_after_loading": own,
        "checkpoint_bytes": size,
        "save_seconds": saving,
        "resumed_exactly": exact,
    }


def table(result: Result) -> str:
    """Returns a Markdown table with a row per measure."""

    def steps(name: str) -> tuple[str, str]:
        small, large = result[name]["small"], result[name]["large"]
        many, few = (f"{row['touched']:.0f} areas of {row['total']:.0e}" for row in (large, small))
        times = f"{large['step_us']:.0f} and {small['step_us']:.0f} us"
        return f"{many} against {few}", f"{result[name]['ratio']:.2f} ({times})"

    exact = "goes on exactly" if result["resumed_exactly"] else "does not go on exactly"
    forced, routed = steps("forced"), steps("routed")
    own = result["own_bytes_after_loading"]
    without = "" if own is None else f", {own / 1e9:.2f} GB of it without the pages of the file"
    rows = [
        ["parameters", "", f"{result['total_parameters']:,}"],
        ["peak resident memory: data, evaluation, checkpoint", "5.5 GB", f"{result['peak_bytes'] / 1e9:.2f} GB"],
        ["the same after loading the checkpoint", "", f"{result['peak_bytes_with_loading'] / 1e9:.2f} GB{without}"],
        [
            "checkpoint",
            "",
            f"{result['checkpoint_bytes'] / 1e9:.2f} GB in {result['save_seconds']:.0f} s; {exact}",
        ],
        [f"step, a fixed assignment: {forced[0]}", "1.2", forced[1]],
        [f"step, routed: {routed[0]}", "", routed[1]],
    ]
    return markdown(("measure", "target", "measured"), rows)


def main() -> None:
    """Prints the figures, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--parameters", type=float, default=1e9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--life", action="store_true", help="the memory run alone, as JSON")
    options = parser.parse_args()
    if options.parameters < 1e7:
        parser.error(
            f"--parameters: expected at least 1e7, so that a tenth of them has areas, got {options.parameters:g}"
        )
    torch.set_num_threads(options.threads)
    if options.life:
        print(json.dumps(whole_life(options.parameters)))
        return
    command = [sys.executable, __file__, "--life", "--parameters", str(options.parameters)]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    for name, forced in (("forced", True), ("routed", False)):
        small, large = compare(options.parameters / 10, options.parameters, forced)
        result[name] = {"small": small, "large": large, "ratio": large["step_us"] / small["step_us"]}
    show(result, table, as_json=options.json)


if __name__ == "__main__":
    main()
