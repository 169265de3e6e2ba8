"""Figures of a training, as files: curves, growth and use of areas, what they hold, alignment (extra ``figures``).

Colour-blind readers can tell the colours apart, and every difference in colour is also one in line style, marker or
position.
"""

from .alignment_of_errors import alignment, alignment_by_epoch
from .classes_in_areas import areas_by_class
from .curves import learning_curves
from .growth_of_areas import growth
from .use_of_areas import area_usage

__all__ = ["alignment", "alignment_by_epoch", "area_usage", "areas_by_class", "growth", "learning_curves"]
