"""Training: the loop over epochs, its schedule, what watches it, and how it scores, stops and goes on."""

from .callback import Callback
from .callbacks import AlignmentRecord, AreaUse, MetricsFile, ProgressBar, TensorBoard, read_metrics
from .learner import Learner
from .progress import Progress
from .schedule import SCHEDULES, Schedule
from .scoring import evaluate, outputs_of, score
from .signals import Interrupted
from .trainer import Trainer

__all__ = [
    "SCHEDULES",
    "AlignmentRecord",
    "AreaUse",
    "Callback",
    "Interrupted",
    "Learner",
    "MetricsFile",
    "Progress",
    "ProgressBar",
    "Schedule",
    "TensorBoard",
    "Trainer",
    "evaluate",
    "outputs_of",
    "read_metrics",
    "score",
]
