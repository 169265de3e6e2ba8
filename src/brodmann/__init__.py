"""Brodmann: deep networks without backpropagation, by Selective Adaptive Learning."""

from .builders import convnet, mlp, residual_mlp, stream_mlp
from .conversion import from_torch, to_torch
from .errors import BrodmannError, CheckpointError, DivergenceError, MissingDataError
from .feedback import Direct, Feedback, FixedRandom, KolenPollack, LeastChange, SignSymmetric, Transpose
from .layer import Context, Layer
from .layers import (
    AreaLinear,
    BatchNorm,
    ChannelsLast,
    Constant,
    Convolution,
    Graph,
    Local,
    Patches,
    Product,
    Recomputed,
    RecomputedGraph,
    Recurrent,
    Residual,
    RMSNorm,
    Routed,
    Sequential,
    TiedProduct,
    TiedWeights,
    affine,
)
from .losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, SumOfSquares
from .network import Captured, Network, Parallel
from .rates import Rates
from .routing import Route, Router
from .updates import RLS, SGD, Adam, Muon, UpdateRule

__version__ = "0.1.0"

__all__ = [
    "RLS",
    "SGD",
    "Adam",
    "AreaLinear",
    "BatchNorm",
    "BinaryCrossEntropy",
    "BrodmannError",
    "Captured",
    "ChannelsLast",
    "CheckpointError",
    "Constant",
    "Context",
    "Convolution",
    "CrossEntropy",
    "Direct",
    "DivergenceError",
    "Feedback",
    "FixedRandom",
    "Graph",
    "KolenPollack",
    "Layer",
    "LeastChange",
    "Local",
    "MeanSquaredError",
    "MissingDataError",
    "Muon",
    "Network",
    "Parallel",
    "Patches",
    "Product",
    "RMSNorm",
    "Rates",
    "Recomputed",
    "RecomputedGraph",
    "Recurrent",
    "Residual",
    "Route",
    "Routed",
    "Router",
    "Sequential",
    "SignSymmetric",
    "SumOfSquares",
    "TiedProduct",
    "TiedWeights",
    "Transpose",
    "UpdateRule",
    "affine",
    "convnet",
    "from_torch",
    "mlp",
    "residual_mlp",
    "stream_mlp",
    "to_torch",
]
