"""Builders: ready-made bodies of networks, made of parts that are chosen by name."""

from .bodies import convnet, mlp, residual_mlp, stream_mlp
from .common import Common
from .designs import design
from .parts import ACTIVATIONS, FEEDBACKS, Parts
from .registry import BUILDERS, build

__all__ = [
    "ACTIVATIONS",
    "BUILDERS",
    "FEEDBACKS",
    "Common",
    "Parts",
    "build",
    "convnet",
    "design",
    "mlp",
    "residual_mlp",
    "stream_mlp",
]
