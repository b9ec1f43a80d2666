import json
from pathlib import Path

from demo.data import GENERATORS, write_data


def test_every_task_gets_files_that_do_not_change_from_run_to_run(tmp_path: Path) -> None:
    one = write_data(tmp_path / "one", train_rows=40, dev_rows=20)
    two = write_data(tmp_path / "two", train_rows=40, dev_rows=20)
    assert set(one) == set(GENERATORS)
    for task, paths in one.items():
        for split, path in paths.items():
            assert path.read_bytes() == two[task][split].read_bytes()


def test_dev_asks_in_words_that_train_does_not_have(tmp_path: Path) -> None:
    paths = write_data(tmp_path, train_rows=200, dev_rows=60)["routing"]
    train, dev = (
        {json.loads(line)["text"] for line in paths[split].read_text().splitlines()}
        for split in ("train", "dev")
    )
    assert not train & dev
    assert {json.loads(line)["label"] for line in paths["dev"].read_text().splitlines()} == {
        "billing", "shipping", "technical", "account",
    }  # fmt: skip


def test_entity_tags_are_iob2_and_one_a_word(tmp_path: Path) -> None:
    path = write_data(tmp_path, train_rows=50, dev_rows=5)["entities"]["train"]
    for line in path.read_text().splitlines():
        row = json.loads(line)
        assert len(row["tokens"]) == len(row["tags"])
        before = "O"
        for tag in row["tags"]:
            assert not tag.startswith("I-") or before[2:] == tag[2:]
            before = tag
