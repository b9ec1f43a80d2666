from pathlib import Path

import pytest
import torch

from experiments.beyond import shared_finetuning
from experiments.beyond.shared_finetuning import finetune_together
from masking import FinetunedModel
from tests.support.experiments import full_context


def test_one_encoder_learns_all_tasks_once(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = full_context(tmp_path, tiny_bert, "better-masks", settings=("batch_size=8",))
    tasks = {task: context.setting(task).varied(lr=1e-3, seed=1) for task in ("trec", "sem", "codah")}
    seen: list[FinetunedModel] = []
    create = FinetunedModel.create

    def watched(*args: object, **named: object) -> FinetunedModel:
        seen.append(create(*args, **named))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(FinetunedModel, "create", watched)
    base = finetune_together(tasks, 1, tmp_path / "shared")
    assert len({id(model.encoder) for model in seen}) == len({id(model.pooler) for model in seen}) == 1
    assert len({id(model.classifier) for model in seen}) == len(tasks)
    start = context.setting("trec").base
    assert base.info.fingerprint != start.info.fingerprint
    assert base.info.tokenizer == start.info.tokenizer
    assert base.pooler is not None
    learned = seen[0].encoder.state_dict()
    assert all(torch.equal(tensor, learned[name]) for name, tensor in base.encoder.state_dict().items())

    def refuse(*_: object) -> None:
        raise AssertionError("finetuned twice")

    monkeypatch.setattr(shared_finetuning, "_learn", refuse)
    again = finetune_together(tasks, 1, tmp_path / "shared")
    assert again.info.fingerprint == base.info.fingerprint
