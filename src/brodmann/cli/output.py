"""Where commands print."""

from __future__ import annotations

from rich.console import Console

OUT = Console(markup=False)  # paths may hold brackets
