"""Kinds of task in training: columns, how a row is read, loss and metrics of each.

A new kind is one file of this folder, a line in `kinds`, and its columns and metrics in `training.options`.
"""

from training.kinds.judgement import Judgement, Target, count_labels, labels_of
from training.kinds.kind import BASE_ALONE, IGNORED, Baseline, Columns, Reading, TargetNumbers, TrainingKind
from training.kinds.kinds import TRAINING_KINDS

__all__ = [
    "BASE_ALONE",
    "IGNORED",
    "TRAINING_KINDS",
    "Baseline",
    "Columns",
    "Judgement",
    "Reading",
    "Target",
    "TargetNumbers",
    "TrainingKind",
    "count_labels",
    "labels_of",
]
