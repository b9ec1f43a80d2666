import gzip
import json
from pathlib import Path

import pytest

from experiments.common.tasks import TASKS, task_files
from tests.support.experiments import write_tasks
from training.errors import DataError


def test_the_papers_eleven_tasks_are_there_and_codah_in_place_of_swags_train() -> None:
    titles = [task.title for task in TASKS.values()]
    paper = ["MRPC", "SST2", "CoLA", "RTE", "QNLI", "SEM", "TREC", "AG", "POS", "NER", "SWAG"]
    assert titles == [*paper, "CODAH"]
    assert TASKS["cola"].metric == "matthews_correlation"
    assert TASKS["ner"].metric == "f1"
    assert all(task.name == name for name, task in TASKS.items())


def test_whole_files_are_used_as_they_are(tmp_path: Path) -> None:
    data = write_tasks(tmp_path / "data")
    files = task_files(TASKS["trec"], data, (None, None), tmp_path / "samples")
    assert files.train == str(data / "trec" / "train.jsonl.gz")
    assert files.dev == str(data / "trec" / "dev.jsonl.gz")
    assert not (tmp_path / "samples").exists()


def test_a_sample_holds_rows_of_the_file_in_order_and_is_the_same_again(tmp_path: Path) -> None:
    data = write_tasks(tmp_path / "data")
    first = task_files(TASKS["trec"], data, (10, None), tmp_path / "one")
    second = task_files(TASKS["trec"], data, (10, None), tmp_path / "two")
    assert Path(first.train).read_bytes() == Path(second.train).read_bytes()
    rows = [json.loads(line) for line in Path(first.train).read_text().splitlines()]
    lines = gzip.decompress((data / "trec" / "train.jsonl.gz").read_bytes()).decode().splitlines()
    whole = [json.loads(line) for line in lines]
    positions = [whole.index(row) for row in rows]
    assert len(rows) == 10
    assert positions == sorted(positions)
    assert first.dev == str(data / "trec" / "dev.jsonl.gz")


def test_other_data_under_the_same_names_have_samples_of_their_own(tmp_path: Path) -> None:
    first, second = (write_tasks(tmp_path / name, train=size) for name, size in (("one", 24), ("two", 30)))
    samples = tmp_path / "samples"
    paths = [task_files(TASKS["trec"], data, (10, 5), samples).train for data in (first, second)]
    again = task_files(TASKS["trec"], first, (10, 5), samples).train
    assert Path(paths[0]).read_bytes() != Path(paths[1]).read_bytes()
    assert again == paths[0]


def test_rows_held_out_of_train_take_the_place_of_dev_which_is_the_test_then(tmp_path: Path) -> None:
    data = write_tasks(tmp_path / "data", train=40)
    files = task_files(TASKS["trec"], data, (None, None), tmp_path / "samples", 0.25)
    train, held = (Path(path).read_text().splitlines() for path in (files.train, files.dev))
    whole = gzip.decompress((data / "trec" / "train.jsonl.gz").read_bytes()).decode().splitlines()
    assert (len(train), len(held)) == (30, 10)
    assert sorted(map(json.loads, [*train, *held]), key=str) == sorted(map(json.loads, whole), key=str)
    assert files.test == data / "trec" / "dev.jsonl.gz"

    few = task_files(TASKS["trec"], data, (8, 4), tmp_path / "samples", 0.25)
    assert set(Path(few.train).read_text().splitlines()) < set(train)
    assert set(Path(few.dev).read_text().splitlines()) < set(held)
    assert task_files(TASKS["trec"], data, (None, None), tmp_path / "samples").test is None


def test_missing_data_are_told_with_the_place_they_should_be_in(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"RTE: no file .*rte/train\.jsonl\.gz \(nor \.jsonl, \.csv"):
        task_files(TASKS["rte"], tmp_path, (None, None), tmp_path)
    with pytest.raises(DataError, match=r"TREC is not on the hub .* give --data FOLDER"):
        task_files(TASKS["trec"], None, (None, None), tmp_path)
