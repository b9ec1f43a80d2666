"""Ensemble combination: one answer from the logits of several masks (paper section 5.3).

What comes out has the shape of one member's logits and goes through the task's codec as those do: the highest
value is the answer, and softmax over the last axis gives the scores.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mask_store import CombineRule
from masking.tasks.predictions import Floats

_Doubles = NDArray[np.float64]

_NO_VOTE = 1e-6  # votes that a class without votes counts for, so that its logarithm is finite
_PLACE = 2.0**-19  # what a place in the ranking costs: the spacing of float32 at the logarithm of _NO_VOTE


def combine_logits(rule: CombineRule, logits: Sequence[Floats]) -> Floats:
    """Combine the members' logits of one input.

    Args:
        rule: What the answer is made of.

            - "logits": the mean of the logits. Scores are its softmax.
            - "probabilities": the mean of the members' softmax; what is returned is its logarithm, so the
              scores are that mean.
            - "labels": the vote, each member for its own best class (the first where several are equal).
              Most votes win, equal votes are ranked by the mean of the probabilities, and if that is equal
              too, the first class wins. What is returned is the logarithm of each class's share of the
              votes, so the scores are those shares: 2/3 and 1/3 where two members of three agree. A class
              without votes counts as a millionth of a vote, and each place in the ranking takes another
              two millionths (2^-19) off the logarithm, so that the order by score is the ranking.
        logits: Per member finite float32 [labels], [choices] or [words, labels], all of one shape.

    Returns:
        float32 of the same shape, finite everywhere.
    """
    members = np.stack(logits).astype(np.float64)
    combined: _Doubles
    if rule == "logits":
        combined = members.mean(axis=0)
    elif rule == "probabilities":
        combined = _log_mean_probability(members)
    else:
        combined = _log_vote_share(members)
    return combined.astype(np.float32)


def _log_mean_probability(members: _Doubles) -> _Doubles:
    """Return the log of the mean softmax over the last axis: [members, ..., classes] to [..., classes]."""
    shifted = members - members.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    result: _Doubles = np.logaddexp.reduce(log_probabilities, axis=0) - np.log(len(members))
    return result


def _log_vote_share(members: _Doubles) -> _Doubles:
    """Return the logarithm of each class's share of the votes, less its place in the ranking."""
    classes = np.arange(members.shape[-1])
    votes = (members.argmax(axis=-1)[..., np.newaxis] == classes).sum(axis=0)
    ranking = np.lexsort((-_log_mean_probability(members), -votes), axis=-1)
    places = ranking.argsort(axis=-1)
    result: _Doubles = np.log(np.maximum(votes, _NO_VOTE) / len(members)) - places * _PLACE
    return result
