"""Paper: learning rates and batch sizes by base, method and task (Zhao et al., EMNLP 2020).

Rates are those of Table 4 (appendix A.4), each the best on dev of a search; batch sizes are those of
appendix A.1. The rates of masks belong to the range of scores of the preset ``paper``.
"""

from collections.abc import Mapping
from pathlib import Path

_TASKS = ("mrpc", "sst2", "cola", "rte", "qnli", "sem", "trec", "agnews", "pos", "ner", "swag")
_TABLE_4 = {
    "bert-base-uncased": {
        "finetune": (5e-5, 1e-5, 3e-5, 5e-5, 3e-5, 1e-5, 3e-5, 3e-5, 3e-5, 3e-5, 7e-5),
        "mask": (1e-3, 5e-4, 9e-4, 1e-3, 7e-4, 7e-5, 1e-4, 5e-4, 5e-4, 7e-4, 1e-4),
    },
    "roberta-base": {
        "finetune": (3e-5, 1e-5, 1e-5, 7e-6, 1e-5, 7e-6, 9e-6, 3e-5, 9e-6, 3e-5, 1e-5),
        "mask": (3e-4, 9e-5, 3e-4, 3e-4, 1e-4, 3e-4, 5e-4, 5e-4, 3e-4, 3e-4, 1e-4),
    },
    "distilbert-base-uncased": {
        "finetune": (3e-5, 7e-5, 3e-5, 3e-5, 3e-5, 1e-5, 3e-5, 3e-5, 3e-5, 1e-5, 7e-6),
        "mask": (9e-4, 7e-4, 9e-4, 9e-4, 1e-3, 3e-4, 9e-4, 1e-3, 7e-4, 7e-4, 3e-4),
    },
}
RATES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    base: {method: dict(zip(_TASKS, rates, strict=True)) for method, rates in rows.items()}
    for base, rows in _TABLE_4.items()
}
"""Table 4 by base (as the hub names it, without its owner), method and task."""

BATCH_SIZES = {"qnli": 128, "agnews": 128}
"""Of the tasks that have another than the preset's."""

_ALIASES = {"ag": "agnews"}


def task_rate(base: str, method: str, task: str) -> float | None:
    """Return the rate of Table 4; None where the paper has none.

    Args:
        base: Hub id or folder, of which the last part counts.
        method: ``mask`` or ``finetune``.
        task: Name of the task, such as ``sst2``, ``SST-2`` or ``ag``.
    """
    return RATES.get(Path(base).name, {}).get(method, {}).get(_plain(task))


def task_batch_size(task: str) -> int | None:
    """Return the batch size of a task that has one of its own; None for others."""
    return BATCH_SIZES.get(_plain(task))


def _plain(task: str) -> str:
    name = "".join(filter(str.isalnum, task.lower()))
    return _ALIASES.get(name, name)
