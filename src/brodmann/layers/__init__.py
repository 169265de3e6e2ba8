"""Layers of networks: maps of areas, operations without parameters, and containers of both."""

from .area_linear import AreaLinear
from .batch_norm import BatchNorm
from .cells import GRU, LSTM, Cell, Elman
from .constant import Constant, affine
from .containers import Residual, Routed, Sequential
from .convolution import Convolution
from .graph import Graph
from .input_of_ones import InputOfOnes
from .layouts import ChannelsLast, Images
from .local import Local, RMSNorm
from .patches import Patches
from .product import Product
from .recomputed import Recomputed, RecomputedGraph
from .recurrent import Recurrent
from .tied import TiedProduct, TiedWeights

__all__ = [
    "GRU",
    "LSTM",
    "AreaLinear",
    "BatchNorm",
    "Cell",
    "ChannelsLast",
    "Constant",
    "Convolution",
    "Elman",
    "Graph",
    "Images",
    "InputOfOnes",
    "Local",
    "Patches",
    "Product",
    "RMSNorm",
    "Recomputed",
    "RecomputedGraph",
    "Recurrent",
    "Residual",
    "Routed",
    "Sequential",
    "TiedProduct",
    "TiedWeights",
    "affine",
]
