"""Gathered encoder: what computes a task without the units that its masks lack, and how fast that is.

The weights of the units that are there are gathered into smaller layers, so nothing is computed for the
others. Answers are those of the full masked encoder, to the rounding of shorter sums.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from experiments.beyond.units import KINDS, Kind, Units, units_of
from lab.random_models import random_base
from lab.random_tasks import features_of, random_bundle, random_ids
from masking import Base, MaskedEncoder, MaskSettings, TaskBatch, load_task

Shares = Mapping[Kind, Sequence[float]]
"""Shares of units that are there, by kind and block."""

_ZEROS = 0.05


def present_units(base: Base, masks: Mapping[str, Tensor]) -> dict[Units, Tensor]:
    """Return which units of a base a task's masks have: boolean [count] each.

    Args:
        base: The encoder.
        masks: Boolean masks by layer name, of all blocks.
    """
    return {units: units.present(masks) for units in units_of(base)}


def shares_of(present: Mapping[Units, Tensor]) -> dict[Kind, list[float]]:
    """Return the shares of units that are there."""
    return {
        kind: [float(kept.float().mean()) for units, kept in present.items() if units.kind == kind]
        for kind in KINDS
    }


def gather(encoder: nn.Module, present: Mapping[Units, Tensor]) -> None:
    """Replace layers of an encoder by those of some units; of each kind and block one stays in any case.

    Args:
        encoder: Of BERT's kin. Its layers are replaced, their tensors are not written to.
        present: Which units stay, boolean [count] each.
    """
    for units, kept in present.items():
        lines = units.spread(kept if kept.any() else torch.arange(units.count) == 0)
        for name in units.writers:
            linear = _linear(encoder, name)
            encoder.set_submodule(name, _layer(linear.weight[lines], linear.bias[lines]))
        reader = _linear(encoder, units.reader)
        encoder.set_submodule(units.reader, _layer(reader.weight[:, lines], reader.bias))


def gathered_base(base: Base, shares: Shares) -> Base:
    """Return a base of random weights without some units: of each block the first stay, as many as its share.

    Args:
        base: The full one; its tensors are left as they are.
        shares: Of another encoder of this kind; its blocks are mapped to those of `base` by their depth.
    """
    present = {}
    for units in units_of(base):
        given = shares[units.kind]
        count = round(given[units.block * len(given) // base.num_blocks] * units.count)
        present[units] = torch.arange(units.count) < count
    encoder = base.share_encoder()
    gather(encoder, present)
    return replace(base, encoder=encoder)


def _linear(encoder: nn.Module, name: str) -> nn.Linear:
    linear = encoder.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear


def _layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    rows, columns = weight.shape
    linear = nn.Linear(columns, rows, device="meta")
    linear.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


@dataclass(frozen=True)
class Times:
    """Times of full and gathered encoders on one batch, one thread, fp32.

    Attributes:
        rows: Rows of the batch.
        tokens: Tokens of each.
        seconds: Median time by what computes it: ``dense`` the encoder in torch, ``masked`` this project's
            engine with one task's masks; of each first the full one, then the gathered ones in their order.
        faster: Likewise how many times faster than the full one, median of rounds; 1 for the full one.
    """

    rows: int
    tokens: int
    seconds: Mapping[str, Sequence[float]]
    faster: Mapping[str, Sequence[float]]


def time_gathered(
    shape: str, gathered: Sequence[Shares], batches: Mapping[tuple[int, int], int]
) -> list[Times]:
    """Time a random encoder beside gathered ones, all in turn.

    Args:
        shape: Of `lab.random_models.SHAPES`.
        gathered: Shares of the gathered ones.
        batches: Rounds by rows and tokens of the batch.
    """
    full = random_base(shape)
    bases = [full, *(gathered_base(full, shares) for shares in gathered)]
    bundles = [random_bundle(base, "task", _ZEROS, 0, settings=MaskSettings(blocks="0-")) for base in bases]
    tasks = [load_task(bundle, base) for bundle, base in zip(bundles, bases, strict=True)]
    encoders = [MaskedEncoder(base) for base in bases]
    found = []
    for (rows, tokens), rounds in batches.items():
        ids = random_ids(full, rows, tokens)
        features, there = features_of(ids), torch.ones_like(ids)
        runs: dict[str, list[Callable[[], object]]] = {
            "dense": [partial(base.encoder, input_ids=ids, attention_mask=there) for base in bases],
            "masked": [
                partial(encoder.logits, [TaskBatch(task, features)])
                for encoder, task in zip(encoders, tasks, strict=True)
            ],
        }
        with _one_thread(), torch.inference_mode():
            taken = _take_turns(runs, rounds)
        seconds = {name: [median(own) for own in zip(*each, strict=True)] for name, each in taken.items()}
        ratios = {name: [[one[0] / own for own in one] for one in each] for name, each in taken.items()}
        faster = {name: [median(own) for own in zip(*each, strict=True)] for name, each in ratios.items()}
        found.append(Times(rows, tokens, seconds, faster))
    return found


def _take_turns(
    runs: Mapping[str, Sequence[Callable[[], object]]], rounds: int
) -> dict[str, list[list[float]]]:
    """Return the seconds of each run in each round, after a round that is not counted."""
    taken: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(1 + rounds):
        for name, own in runs.items():
            taken[name].append([_seconds(run) for run in own])
    return {name: own[1:] for name, own in taken.items()}


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
