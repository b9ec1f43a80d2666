"""Representations: encoders' states at [CLS], a map of them, and how well either separates the classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

from masking import Base, Features, collate
from training.loop.evaluation import token_batches

Array = NDArray[np.float32]

MIN_INPUTS = 4
"""Inputs that a map needs at least."""

NEIGHBOURS = 10
_PERPLEXITY = 30.0  # scikit-learn's default


def cls_states(encoder: nn.Module, base: Base, features: Sequence[Features], *, max_rows: int = 64) -> Array:
    """Return the output of the topmost block at [CLS] of each input, float32 [inputs, hidden].

    Args:
        encoder: An encoder of the base's shape; left in evaluation mode.
        base: Gives the tokenizer, for padding, and the device.
        features: Inputs of one row each, at least one.
        max_rows: Rows of a batch at most.
    """
    encoder.eval()
    states = np.empty((len(features), base.hidden_size), np.float32)
    for batch in token_batches(features, max_rows):
        rows = [features[index].rows[0] for index in batch]
        with torch.no_grad():
            output: Any = encoder(**collate(rows, base.tokenizer, base.device))
        states[batch] = output.last_hidden_state[:, 0].float().cpu().numpy()
    return states


def separation(states: Array, labels: Sequence[str]) -> float:
    """Return the mean silhouette of the classes in the full space: -1 mixed up, 0 overlapping, 1 apart.

    Args:
        states: [inputs, hidden].
        labels: Class of each input; at least two classes.
    """
    return float(silhouette_score(states, list(labels)))


def agreement(places: Array, labels: Sequence[str]) -> float:
    """Return the share of points of which more than half of the 10 nearest neighbours have the same label.

    Args:
        places: Points, [inputs, dimensions]; of fewer than 11 all others are neighbours.
        labels: Class of each input.
    """
    count = min(NEIGHBOURS, len(places) - 1)
    nearest = NearestNeighbors(n_neighbors=count).fit(places).kneighbors(return_distance=False)
    own = np.asarray(labels)
    same = (own[nearest] == own[:, None]).sum(axis=1)
    return float((same > count / 2).mean())


def flatten(states: Array, *, seed: int = 0) -> Array:
    """Return a map of states by t-SNE with scikit-learn's defaults, float32 [inputs, 2].

    Args:
        states: [inputs, hidden], at least `MIN_INPUTS` inputs; of few the perplexity is lower.
        seed: Decides the map.
    """
    perplexity = min(_PERPLEXITY, (len(states) - 1) / 3)
    result: Array = TSNE(perplexity=perplexity, random_state=seed).fit_transform(states)
    return result
