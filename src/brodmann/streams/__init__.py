"""Streams: tasks one after another, learned in one pass, by networks and by what they are compared with."""

from .baselines import ElasticConsolidation, NearestMean, Replay, StreamingDiscriminant
from .stream import NetworkLearner, StreamLearner, Task, continual_scores, learn_stream

__all__ = [
    "ElasticConsolidation",
    "NearestMean",
    "NetworkLearner",
    "Replay",
    "StreamLearner",
    "StreamingDiscriminant",
    "Task",
    "continual_scores",
    "learn_stream",
]
