"""Adapters that ours is measured against: PEFT's LoRA and RoAd with `adapter_names`, and PolyLoRA.

One random adapter per task on the six linear layers of the blocks that our tasks mask, of rank 8 where it is
LoRA; one unmasked head for all. They compute something else than masks do, so only their shapes and the
mixing of adapters are checked. Needs the extra "bench".
"""

import warnings
from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import torch
from torch import Tensor

from benchmarks.errors import WrongResultError
from benchmarks.peers.dense import HeadedEncoder, Run
from lab.extras import need
from lab.random_models import masked_linears
from lab.random_tasks import Workload
from masking import Base
from masking.heads import CLASSIFIER

RANK = 8
_ROAD_GROUP = 64
"""PEFT's default; a divisor of it for layers that are smaller."""
_TOLERANCE = 1e-3

MixedForward = Callable[[Tensor, list[str]], Tensor]
"""Logits [rows, classes] of token ids [rows, tokens] and the name of each row's adapter."""


def adapter_bytes(base: Base) -> int:
    """Return the bytes of one LoRA adapter in float32."""
    return 4 * RANK * sum(sum(linear.weight.shape) for linear in masked_linears(base).values())


def peft(workload: Workload) -> Run:
    """Return a run of PEFT's LoRA on a mixed batch, by `adapter_names`."""
    return _peft_run(workload, _lora_config(workload.base))


def road(workload: Workload) -> Run:
    """Return a run of PEFT's RoAd, its smallest variant, on a mixed batch, by `adapter_names`."""
    linears = masked_linears(workload.base)
    group = gcd(_ROAD_GROUP, *(linear.out_features for linear in linears.values()))
    config = need("peft").RoadConfig(target_modules=list(linears), group_size=group, init_weights=False)
    return _peft_run(workload, config)


def _peft_run(workload: Workload, config: Any) -> Run:
    adapted = _peft_model(workload.base, _adapter_names(workload), config)
    model = HeadedEncoder.unmasked(workload.base, workload.tasks[0], adapted)

    def forward(ids: Tensor, adapters: list[str]) -> Tensor:
        return model.logits(model.encoder(input_ids=ids, adapter_names=adapters).last_hidden_state)

    return _checked(workload, forward)


def polylora(workload: Workload) -> Run:
    """Return a run of PolyLoRA with all adapters resident."""
    package, names = need("polylora"), _adapter_names(workload)
    layers = list(masked_linears(workload.base))
    config = package.PolyLoraConfig(max_gpu_adapters=len(names), max_rank=RANK, target_modules=layers)
    server = package.PolyLoraModel(workload.base.share_encoder(), config).eval()
    adapters = _peft_model(workload.base, names, _lora_config(workload.base))
    for name in names:
        server.add_adapter_from_peft_model(name, adapters)
    model = HeadedEncoder.unmasked(workload.base, workload.tasks[0], server)

    def forward(ids: Tensor, adapters: list[str]) -> Tensor:
        return model.logits(server(input_ids=ids, adapter_ids=adapters).last_hidden_state)

    return _checked(workload, forward)


def _adapter_names(workload: Workload) -> list[str]:
    return [task.bundle.manifest.task for task in workload.tasks]


def _lora_config(base: Base) -> Any:
    return need("peft").LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        lora_dropout=0.0,
        target_modules=list(masked_linears(base)),
        init_lora_weights=False,
    )


def _peft_model(base: Base, names: Sequence[str], config: Any) -> Any:
    """Return the encoder under one random adapter per name, in PEFT's classes."""
    package = need("peft")
    torch.manual_seed(0)
    with warnings.catch_warnings():  # some versions ask transformers for attributes that are deprecated
        warnings.simplefilter("ignore", FutureWarning)
        model = package.get_peft_model(base.share_encoder(), config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    return model.eval()


def _checked(workload: Workload, forward: MixedForward) -> Run:
    """Return a run of the whole batch, once a row alone has given what it gives in the batch.

    Raises:
        WrongResultError: The shape is wrong, or a row is not answered by its own adapter.
    """
    names = _adapter_names(workload)
    adapters = [name for name, count in zip(names, workload.counts, strict=True) for _ in range(count)]
    ids, last = workload.ids, adapters[-1]
    mixed = forward(ids, adapters)
    alone = forward(ids[-1:], [last])
    classes = len(workload.tasks[0].head_linear(CLASSIFIER, workload.base)[1])
    if mixed.shape != (len(ids), classes):
        raise WrongResultError(f"logits of {len(ids)} rows have the shape {tuple(mixed.shape)}")
    if not torch.allclose(mixed[-1:], alone, rtol=_TOLERANCE, atol=_TOLERANCE * float(alone.abs().max())):
        raise WrongResultError("a row in a mixed batch is not answered as it is alone")
    if len(names) > 1 and torch.equal(alone, forward(ids[-1:], names[:1])):
        raise WrongResultError("two adapters give the same answer")
    return lambda: forward(ids, adapters)
