"""Runs the benchmarks of speed and memory, prints their tables and puts them into docs/results.md.

Run: python benchmarks/refresh.py [roofline kernels step_time inference memory scale] [--page docs/results.md]
On an idle machine. A table stands between `<!-- NAME -->` and `<!-- end of NAME -->`; the words around it, which say
what it means, are written by hand and want a look whenever the numbers change.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import inference
import kernels
import memory
import roofline
import scale
import step_time
from output import put

from brodmann.files import write_bytes

HERE = Path(__file__).parent
TABLES = {module.__name__: module.table for module in (roofline, kernels, step_time, inference, memory, scale)}


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
