"""Routing: which area each sample goes to, how that choice learns, and where samples pull in opposite directions."""

from .conflict import Conflict
from .route import AnyRoute, Route
from .router import PARTITIONS, Router, build_router

__all__ = [
    "PARTITIONS",
    "AnyRoute",
    "Conflict",
    "Route",
    "Router",
    "build_router",
]
