import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cases.serving import ENGINE, HTTP, PER_TASK


def test_every_way_is_measured_at_one_client_and_at_many(
    tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    options = ["--base", tiny_bert, "--tasks", "3", "--clients", "4", "--seconds", "0.1", "--rounds", "2"]
    assert main(["serving", *options, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["results"].keys() == {"1", "4"}
    for ways in report["results"].values():
        assert ways.keys() == {HTTP, ENGINE, PER_TASK}
        assert ways[ENGINE]["rate_over_engine"] == 1.0
        assert all(one["rate"] > 0 and one["p50_ms"] > 0 for one in ways.values())
    assert len(capsys.readouterr().out.splitlines()) == 2 + 6
