from pathlib import Path

import pytest

from experiments.beyond import copies
from experiments.beyond.copies import FORMS
from tests.support.experiments import run


def test_copies_become_tasks_that_answer_together_as_folded(
    tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = run(tmp_path, tiny_bert, "copies", "--tasks", "trec", "ner", "codah")["values"]
    assert set(values["tasks"]) == {"trec", "ner", "codah"}
    for forms in values["tasks"].values():
        assert list(forms) == list(FORMS)
        assert len({one["copied"] for one in forms.values()}) == 1
        for one in forms.values():
            assert 0 < one["equal"] <= 1
            assert one["points"] == pytest.approx(100 * (one["value"] - one["copied"]))
    mixed = values["mixed"]
    assert mixed["tasks"] == 6
    assert mixed["equal"] == mixed["answers"] > 0
    assert mixed["largest"] < 1e-5

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("imported twice")

    monkeypatch.setattr(copies, "import_copy", refuse)
    assert run(tmp_path, tiny_bert, "copies", "--tasks", "trec", "ner", "codah")["values"] == values
