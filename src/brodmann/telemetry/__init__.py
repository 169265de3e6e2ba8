"""What goes on inside a network, as data: use of areas, alignment of errors, conflict of classes."""

from .alignment_of_errors import Alignment, alignment
from .conflict_of_classes import ClassConflict, class_conflict
from .use_of_areas import AreaUsage, area_choices, area_counts, area_usage, usage_of

__all__ = [
    "Alignment",
    "AreaUsage",
    "ClassConflict",
    "alignment",
    "area_choices",
    "area_counts",
    "area_usage",
    "class_conflict",
    "usage_of",
]
