"""Layers: what they must offer, and what they are told in a step."""

from .checked import check_layer, error_through, trace_of
from .container import Container, replace_rule_throughout, rule_throughout
from .context import Context, Observer
from .gathering import Gathering
from .layer import Layer, has_parameters

__all__ = [
    "Container",
    "Context",
    "Gathering",
    "Layer",
    "Observer",
    "check_layer",
    "error_through",
    "has_parameters",
    "replace_rule_throughout",
    "rule_throughout",
    "trace_of",
]
