"""What this machine can do at most: multiply-adds per second, and bytes per second by how much memory is in use.

Run: python benchmarks/roofline.py [--json] [--threads 2]
Each figure is the best of several tries: a limit, not an average.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from output import Result, markdown, show

from brodmann.kernels.build import compiled, find_compiler

MEGABYTES = (0.5, 2, 8, 16, 32, 64, 512)


@dataclass(frozen=True)
class Roofline:
    """Limits of a machine.

    Attributes:
        threads: Threads in use.
        gflops: float32 multiply-adds, each counted as two operations, in 1e9 per second.
        matmul_gflops: What `torch.mm` reaches on 2048 x 2048.
        read: GB/s of reading so many megabytes again and again.
        update: GB/s of reading and writing them in place, both counted.
    """

    threads: int
    gflops: float
    matmul_gflops: float
    read: dict[float, float]
    update: dict[float, float]

    def seconds(self, read_bytes: float, updated_bytes: float, flops: float) -> float:
        """Returns the least time of work that reads some bytes, updates others in place (counted once) and computes.

        Bandwidth is that of the smallest memory measured that holds both.
        """
        held = next((size for size in MEGABYTES if (read_bytes + updated_bytes) / 1e6 <= size), MEGABYTES[-1])
        moving = read_bytes / (self.read[held] * 1e9) + 2 * updated_bytes / (self.update[held] * 1e9)
        return max(moving, flops / (self.gflops * 1e9))


def best_seconds(work: Callable[[], object], tries: int = 7) -> float:
    """Returns the shortest time of several tries."""
    times = []
    for _ in range(tries):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def measure(threads: int) -> Roofline:
    """Measures; takes a few seconds."""
    compiler = find_compiler()
    assert compiler is not None, "the roofline needs a C++ compiler"
    library = ctypes.CDLL(str(compiled(Path(__file__).with_name("roofline.cpp"), compiler)))
    library.operations.restype = ctypes.c_int64
    library.multiply_add.argtypes, library.multiply_add.restype = [ctypes.c_int64, ctypes.c_int64], ctypes.c_double
    library.read_floats.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
    library.update_floats.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float]
    rounds = 1_000_000
    flops = library.operations() * rounds * threads
    gflops = flops / best_seconds(lambda: library.multiply_add(threads, rounds)) / 1e9
    square = torch.randn(2048, 2048)
    matmul = 2 * 2048**3 / best_seconds(lambda: square @ square) / 1e9
    read, update = {}, {}
    for size in MEGABYTES:
        values = torch.ones(int(size * 1e6) // 4)
        address, count, repeats = values.data_ptr(), len(values), max(1, int(64 / size))

        def reading(address: int = address, count: int = count, repeats: int = repeats) -> None:
            for _ in range(repeats):
                library.read_floats(threads, address, count)

        def updating(address: int = address, count: int = count, repeats: int = repeats) -> None:
            for _ in range(repeats):
                library.update_floats(threads, address, count, 1.0)

        read[size] = values.nbytes * repeats / best_seconds(reading) / 1e9
        update[size] = 2 * values.nbytes * repeats / best_seconds(updating) / 1e9
    return Roofline(threads, gflops, matmul, read, update)


def table(result: Result) -> str:
    """Returns the limits as text and a Markdown table."""
    rows = [[str(size), f"{result['read'][size]:.0f}", f"{result['update'][size]:.0f}"] for size in result["read"]]
    peak = (
        f"{result['threads']} threads: {result['gflops']:.0f} GFLOP/s from registers, "
        f"{result['matmul_gflops']:.0f} in PyTorch's `mm` of 2048 x 2048."
    )
    return f"{peak}\n\n{markdown(('MB in use', 'reading (GB/s)', 'reading and writing in place (GB/s)'), rows)}"


def main() -> None:
    """Prints a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    show(asdict(measure(options.threads)), table, as_json=options.json)


if __name__ == "__main__":
    main()
