"""Training: the loop over epochs, its schedule, what watches it, and how it scores, stops and goes on."""

from ..network.batches import outputs_of
from .callback import Callback
from .learner import Learner
from .metrics_file import MetricsFile, read_metrics
from .progress import Progress
from .progress_bar import ProgressBar
from .records import AlignmentRecord, AreaRecord
from .schedule import SCHEDULES, Schedule
from .scoring import evaluate, score
from .signals import Interrupted
from .tensorboard import TensorBoard
from .trainer import Trainer

__all__ = [
    "SCHEDULES",
    "AlignmentRecord",
    "AreaRecord",
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
