"""Feedback paths: how an error travels down through a layer without its forward weights."""

from .checked import (
    build_feedback,
    error_below,
    follows_alone,
    let_learn,
    matrix_of,
    one_matrix_of,
    path_reads_rows,
)
from .fixed import Direct, FixedRandom, as_direct
from .forward_weights import SignSymmetric, Transpose
from .kolen_pollack import KolenPollack
from .least_change import LeastChange
from .path import Feedback
from .shape import Shape
from .signal import Signal

__all__ = [
    "Direct",
    "Feedback",
    "FixedRandom",
    "KolenPollack",
    "LeastChange",
    "Shape",
    "SignSymmetric",
    "Signal",
    "Transpose",
    "as_direct",
    "build_feedback",
    "error_below",
    "follows_alone",
    "let_learn",
    "matrix_of",
    "one_matrix_of",
    "path_reads_rows",
]
