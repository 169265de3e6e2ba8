"""How many classes the models tell apart."""

from __future__ import annotations

CLASSES = 3
