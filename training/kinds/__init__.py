"""Kinds of task in training: columns, how a row is read, loss and metrics of each.

A new kind is one file of this folder, a line in `kinds`, and its columns and metrics in `training.options`.
"""

from training.kinds.kind import IGNORED, Columns, Target, TargetIndices, TrainingKind
from training.kinds.kinds import TRAINING_KINDS

__all__ = ["IGNORED", "TRAINING_KINDS", "Columns", "Target", "TargetIndices", "TrainingKind"]
