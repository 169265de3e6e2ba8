"""Runs the benchmarks of speed and memory, prints their tables and puts them into docs/results.md.

Run: python benchmarks/refresh.py [roofline kernels step_time memory scale] [--page docs/results.md]
On an idle machine. A table stands between `<!-- NAME -->` and `<!-- end of NAME -->`; the words around it, which say
what it means, are written by hand and want a look whenever the numbers change.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from brodmann.files import write_bytes

HERE = Path(__file__).parent
Result = dict[str, Any]


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def roofline(result: Result) -> str:
    rows = [[size, f"{result['read'][size]:.0f}", f"{result['update'][size]:.0f}"] for size in result["read"]]
    peak = (
        f"{result['threads']} threads: {result['gflops']:.0f} GFLOP/s from registers, "
        f"{result['matmul_gflops']:.0f} in PyTorch's `mm` of 2048 x 2048."
    )
    return f"{peak}\n\n{table(('MB in use', 'reading (GB/s)', 'reading and writing in place (GB/s)'), rows)}"


def kernels(result: Result) -> str:
    names = ("forward", "error", "update")
    rows = [
        [str(row["areas"]), str(row["rows_per_area"]), row["map"], row["weights"]]
        + [
            f"{row[f'{name}_us']:.0f} us, {row[f'{name}_gflops']:.0f}, {100 * row[f'{name}_of_limit']:.0f} %"
            for name in names
        ]
        for row in result["rows"]
    ]
    return table(("areas", "rows each", "map", "weights", *names), rows)


def step_time(result: Result) -> str:
    columns = ("setting", "batch", "areas touched", "step (us)", "limit (us)", "times the limit", "dense (us)", "ratio")
    rows = [
        [
            row["setting"],
            str(row["batch"]),
            ", ".join(map(str, row["touched"])),
            f"{row['step_us']:.0f}",
            f"{row['limit_us']:.0f}",
            f"{row['over_limit']:.2f}" if row["limit_us"] > 1 else "",
            f"{row['dense_us']:.0f}",
            f"{row['ratio']:.2f}",
            "" if row["target"] is None else f"{row['target']}",
            "" if row["mixture_ratio"] is None else f"{row['mixture_ratio']:.3f}",
        ]
        for row in result["rows"]
    ]
    shares = " and ".join(f"{100 * row['share']:.0f} % with {row['areas']}" for row in result["routing"])
    return f"{table((*columns, 'target', 'of mixture'), rows)}\n\nRouting takes {shares} areas of a lean step."


def memory(result: Result) -> str:
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
    return table(columns, rows)


def scale(result: Result) -> str:
    def steps(name: str) -> tuple[str, str]:
        small, large = result[f"{name}_1e+08"], result[f"{name}_1e+09"]
        many, few = (f"{row['touched']:.0f} areas of {row['total']:.0e}" for row in (large, small))
        times = f"{large['step_us']:.0f} and {small['step_us']:.0f} us"
        return f"{many} against {few}", f"{result[f'{name}_ratio']:.2f} ({times})"

    exact = "goes on exactly" if result["resumed_exactly"] else "does not go on exactly"
    forced, routed = steps("forced"), steps("routed")
    rows = [
        ["parameters", "", f"{result['total_parameters']:,}"],
        ["peak resident memory: data, evaluation, checkpoint", "5.5 GB", f"{result['peak_bytes'] / 1e9:.2f} GB"],
        ["the same after loading the checkpoint", "", f"{result['peak_bytes_with_loading'] / 1e9:.2f} GB"],
        [
            "checkpoint",
            "",
            f"{result['checkpoint_bytes'] / 1e9:.2f} GB in {result['save_seconds']:.0f} s; {exact}",
        ],
        [f"step, a fixed assignment: {forced[0]}", "1.2", forced[1]],
        [f"step, routed: {routed[0]}", "", routed[1]],
    ]
    return table(("measure", "target", "measured"), rows)


TABLES: dict[str, Callable[[Result], str]] = {
    writer.__name__: writer for writer in (roofline, kernels, step_time, memory, scale)
}


def put(page: str, name: str, text: str) -> str:
    """Returns the page with the text in its place."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        sys.exit(f"The page has no place for {name}: expected {begin.strip()} and {end.strip()} around it.")
    return before + begin + text + end + after


def main() -> None:
    """Runs, prints, writes after every benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TABLES)} (default: all)")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "results.md")
    options = parser.parse_args()
    if unknown := set(options.names) - set(TABLES):
        parser.error(f"expected names among {', '.join(TABLES)}, got {sorted(unknown)[0]}")
    for name in options.names or TABLES:
        command = [sys.executable, str(HERE / f"{name}.py"), "--json"]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        text = TABLES[name](json.loads(printed.splitlines()[-1]))
        print(f"{name}\n\n{text}\n", flush=True)
        write_bytes(options.page, put(options.page.read_text(), name, text).encode())


if __name__ == "__main__":
    main()
