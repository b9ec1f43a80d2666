from pathlib import Path

from tests.support.experiments import run


def test_table4(tmp_path: Path, tiny_bert: str) -> None:
    report = run(tmp_path, tiny_bert, "table4", "--tasks", "trec", "--seeds", "1", "--rows", "8/12")
    found = report["values"]["tiny-bert"]
    assert set(found) == {"masking", "finetuning"}
    for row in found.values():
        search = row["trec"]
        assert search["chosen"] in search["tried"]
        assert search["tried"] == sorted(search["tried"])
        assert {1e-5, 3e-5, 5e-5, 7e-5, 9e-5} <= set(search["tried"])
    inside, above = report["claims"]
    assert (inside["rule"], above["rule"]) == ("T4a", "T4b")
    assert inside["values"]["searches"] == 2
    chosen = {method: row["trec"]["chosen"] for method, row in found.items()}
    assert above["agrees"] is (chosen["masking"] > chosen["finetuning"])
    assert "| TREC | masking |" in (tmp_path / "out" / "table4-quick.md").read_text()
