"""Steps of several processes: what they tell one another, and how long they take, beside DistributedDataParallel.

Run: python benchmarks/processes.py [--json] [--processes 2] [--batch 256] [--repeats 20]
Of 784-256-10 by SGD, one thread per process, over Gloo on one machine; the batch is that of all processes. Rivals are
under autograd: a dense network of equal active width, and a mixture of experts of equal total size, whose gradients are
summed over the processes. "Alone" is one process with one thread and the whole batch, captured. All take turns.
The last rows are of convolutions, of 16 and 32 channels for images of 32 x 32 pixels in colour, a quarter as many.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from output import Result, markdown, show
from rivals import GroupedMixture, autograd_step
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from turns import rounds

from brodmann import SGD, Captured, Layer, Network, Parallel, convnet, mlp
from brodmann.baselines import Backpropagation

INPUTS, WIDTH, OUTPUTS = 784, 256, 10
AREAS = (1, 16, 256)
AREAS_OF_CONVOLUTIONS = (1, 4)
IMAGES = (3, 32, 32)
LEAN = {"shared": "off", "router": {"learned": False}}
BLOCK = 5


Step = Callable[[Any, Any], None]


def summed(model: nn.Module) -> tuple[Step, int]:
    """Returns a step of a model whose gradients are summed over the processes, and the bytes of these."""
    told = sum(part.nbytes for part in model.parameters() if part.requires_grad)
    return autograd_step(DistributedDataParallel(model), "sgd", 1e-3), told


def measure_maps(areas: int, batch: int, repeats: int) -> dict[str, Any]:
    """Times steps of a network of two layers and its rivals."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, INPUTS), torch.randint(0, OUTPUTS, (batch,))
    lean: dict[str, Any] = {} if areas == 1 else LEAN
    rivals = {"dense": summed(Backpropagation(INPUTS, OUTPUTS, width=WIDTH, optimiser="sgd").body)}
    if areas > 1:
        rivals["mixture"] = summed(GroupedMixture(INPUTS, WIDTH, OUTPUTS, areas))
    build = partial(mlp, INPUTS, OUTPUTS, width=WIDTH, areas=areas, update=SGD(), **lean)
    return {"network": "maps", "areas": areas, **measure(build, x, y, rivals, repeats)}


def measure_convolutions(areas: int, batch: int, repeats: int) -> dict[str, Any]:
    """Times steps of a convolutional network."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, *IMAGES), torch.randint(0, OUTPUTS, (batch,))
    build = partial(convnet, IMAGES, OUTPUTS, channels=(16, 32), areas=areas, update=SGD())
    return {"network": "convolutions", "areas": areas, **measure(build, x, y, {}, repeats)}


def measure(
    build: Callable[[], Layer], x: Tensor, y: Tensor, rivals: dict[str, tuple[Step, int]], repeats: int
) -> dict[str, Any]:
    """Times steps of a network and its rivals in turns; returns milliseconds and bytes."""
    parallel, alone = Parallel(Network(build())), Captured(Network(build()))
    rows = parallel.processes.share_of(len(x))
    own = x[rows], y[rows]
    steps: dict[str, Callable[[], object]] = {"together": lambda: parallel.learn(x, y, lr=1e-3)}
    steps |= {name: partial(step, *own) for name, (step, _) in rivals.items()}
    parallel.learn(x, y, lr=1e-3)  # areas exist from now on
    before = parallel.processes.bytes_sent
    parallel.learn(x, y, lr=1e-3)
    sent = {"together": parallel.processes.bytes_sent - before} | {name: size for name, (_, size) in rivals.items()}
    times = dict(zip(steps, rounds(repeats, *steps.values(), block=BLOCK), strict=True))
    distributed.barrier()
    if parallel.processes.rank == 0:  # while the others wait
        times["alone"] = rounds(repeats, lambda: alone.learn(x, y, lr=1e-3), block=BLOCK)[0]
    distributed.barrier()
    return {"milliseconds": {name: 1e3 * statistics.median(own) for name, own in times.items()}, "bytes": sent}


def run(rank: int, options: argparse.Namespace, folder: str) -> None:
    """What every process does; the first one prints."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.processes)
    found = [measure_maps(areas, options.batch, options.repeats) for areas in AREAS]
    found += [measure_convolutions(areas, options.batch // 4, options.repeats) for areas in AREAS_OF_CONVOLUTIONS]
    distributed.destroy_process_group()
    if rank == 0:
        show({"processes": options.processes, "batch": options.batch, "rows": found}, table, as_json=options.json)


def table(result: Result) -> str:
    """Returns the result as a Markdown table."""
    names = ("together", "dense", "mixture")
    head = ["network", "areas", *(f"{name}, kB" for name in names), *(f"{name}, ms" for name in (*names, "alone"))]
    rows = [
        [
            row["network"],
            str(row["areas"]),
            *(f"{row['bytes'][name] / 1e3:,.0f}" if name in row["bytes"] else "-" for name in names),
            *(f"{row['milliseconds'][name]:.1f}" if name in row["milliseconds"] else "-" for name in (*names, "alone")),
        ]
        for row in result["rows"]
    ]
    return markdown(head, rows)


def main() -> None:
    """Starts the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256, help="samples of a step, of all processes")
    parser.add_argument("--repeats", type=int, default=20, help="blocks of five steps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(run, (options, str(Path(folder))), nprocs=options.processes)


if __name__ == "__main__":
    main()
