"""Storage of areas: slabs of weights, which areas have a slot in them, and what they start as."""

from .area_map import AreaMap
from .parts import error_of_parts, map_of_parts
from .slab import Slab

__all__ = ["AreaMap", "Slab", "error_of_parts", "map_of_parts"]
