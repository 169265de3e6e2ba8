"""Routing: which area each sample goes to, how that choice learns, and where samples pull in opposite directions."""

from .conflict import Conflict, sketch
from .route import Choice, Route, checked_route, gathered, spread, weights_of_rows
from .router import Router, build_router, cell_count, check_partition

__all__ = [
    "Choice",
    "Conflict",
    "Route",
    "Router",
    "build_router",
    "cell_count",
    "check_partition",
    "checked_route",
    "gathered",
    "sketch",
    "spread",
    "weights_of_rows",
]
