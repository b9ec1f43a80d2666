"""Checkpoints: finetuned models of transformers, read as copies of a base and written from tasks.

`load_copy` reads one and refuses what was not finetuned from the base, `CopySigns` makes a task of it with
one bit per weight, `fit_scales` makes it answer more like the copy, `export_task` writes any task as a folder
that transformers or sentence-transformers loads, `export_tensors` finetuned weights, and `folded_tensors`
returns the dense weights that a task's bits stand for.
"""

from masking.checkpoints.copies import FinetunedCopy, load_copy
from masking.checkpoints.export import export_task, export_tensors
from masking.checkpoints.fitting import fit_scales
from masking.checkpoints.folding import folded_tensors
from masking.checkpoints.sentences import read_sentence_encoder
from masking.checkpoints.signs import CopySigns

__all__ = [
    "CopySigns",
    "FinetunedCopy",
    "export_task",
    "export_tensors",
    "fit_scales",
    "folded_tensors",
    "load_copy",
    "read_sentence_encoder",
]
