"""Brodmann: deep networks without backpropagation, by Selective Adaptive Learning."""

from .area_linear import AreaLinear
from .builders import convnet, mlp, residual_mlp, stream_mlp
from .constant import Constant, affine
from .containers import Recomputed, Residual, Routed, Sequential
from .conversion import from_torch
from .convolution import Convolution
from .errors import BrodmannError, CheckpointError, DivergenceError, MissingDataError
from .feedback import Direct, Feedback, FixedRandom, KolenPollack, LeastChange, SignSymmetric, Transpose
from .graph import Graph
from .layers import Context, Layer, Rates
from .layouts import ChannelsLast
from .local import Local, RMSNorm
from .losses import CrossEntropy, MeanSquaredError, SumOfSquares
from .network import Network
from .patches import Patches
from .product import Product
from .routes import Route
from .routing import Router
from .updates import RLS, SGD, Adam, UpdateRule

__version__ = "0.1.0"

__all__ = [
    "RLS",
    "SGD",
    "Adam",
    "AreaLinear",
    "BrodmannError",
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
    "Network",
    "Patches",
    "Product",
    "RMSNorm",
    "Rates",
    "Recomputed",
    "Residual",
    "Route",
    "Routed",
    "Router",
    "Sequential",
    "SignSymmetric",
    "SumOfSquares",
    "Transpose",
    "UpdateRule",
    "affine",
    "convnet",
    "from_torch",
    "mlp",
    "residual_mlp",
    "stream_mlp",
]
