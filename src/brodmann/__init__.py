"""Brodmann: deep networks without backpropagation, by Selective Adaptive Learning."""

from .area_linear import AreaLinear
from .builders import mlp, residual_mlp
from .containers import Recomputed, Residual, Routed, Sequential
from .errors import BrodmannError, CheckpointError, DivergenceError, MissingDataError
from .feedback import Direct, Feedback, FixedRandom, KolenPollack, SignSymmetric, Transpose
from .layers import Context, Layer, Rates
from .local import Local, RMSNorm
from .losses import CrossEntropy, MeanSquaredError
from .network import Network
from .routing import Route, Router
from .updates import SGD, Adam, UpdateRule

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adam",
    "AreaLinear",
    "BrodmannError",
    "CheckpointError",
    "Context",
    "CrossEntropy",
    "Direct",
    "DivergenceError",
    "Feedback",
    "FixedRandom",
    "KolenPollack",
    "Layer",
    "Local",
    "MeanSquaredError",
    "MissingDataError",
    "Network",
    "RMSNorm",
    "Rates",
    "Recomputed",
    "Residual",
    "Route",
    "Routed",
    "Router",
    "Sequential",
    "SignSymmetric",
    "Transpose",
    "UpdateRule",
    "mlp",
    "residual_mlp",
]
