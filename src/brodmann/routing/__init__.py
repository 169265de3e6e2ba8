"""Routing: which area each sample goes to, how that choice learns, and where samples pull in opposite directions."""

from .conflict import Conflict, sketch
from .partition import cell_count, check_partition
from .recruiting import Recruiting
from .route import Choice, Chosen, Route, checked_route
from .router import Router, build_router, settle_feedback

__all__ = [
    "Choice",
    "Chosen",
    "Conflict",
    "Recruiting",
    "Route",
    "Router",
    "build_router",
    "cell_count",
    "check_partition",
    "checked_route",
    "settle_feedback",
    "sketch",
]
