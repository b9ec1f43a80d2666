import json
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.published.catalogue import RULES

_CLAIM = {"rule": "T1a", "subject": "some-base", "values": {"mean difference": 0.25}, "agrees": True}


def _store(folder: Path, name: str, **fields: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"scale": "quick", **fields}))


def test_every_claim_is_listed_with_rule_paper_and_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _store(tmp_path, "table1-quick", claims=[_CLAIM])
    _store(tmp_path, "older")
    assert main(["claims", "--output", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for rule in RULES.values():
        row = next(line for line in lines if line.startswith(f"| {rule.id} |"))
        assert f"| {rule.claim} | {rule.condition} | paper |" in row
    assert "|  |  |  | table1-quick | quick | some-base | mean difference 0.25 | agrees |" in lines
    report = json.loads((tmp_path / "claims.json").read_text())
    assert report["values"]["measured"] == [{"source": "table1-quick", "scale": "quick", **_CLAIM}]
    assert not any(found["agrees"] is False for rule in report["values"]["rules"] for found in rule["paper"])

    assert main(["claims", "--output", str(tmp_path)]) == 0  # its own page is no measurement


@pytest.mark.parametrize("text", ["{", "[]", '{"claims": [{"rule": "T1a"}]}', '{"claims": [{"rule": "X"}]}'])
def test_a_file_that_is_no_result_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "bad.json").write_text(text)
    assert main(["claims", "--output", str(tmp_path)]) == 1
    assert "bad.json: not a result" in capsys.readouterr().err
