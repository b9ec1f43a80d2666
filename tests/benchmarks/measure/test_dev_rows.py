from pathlib import Path

from benchmarks.measure.dev_rows import dev_file
from tests.support.learning_data import reviews, write_lines


def test_a_folder_of_a_task_comes_before_a_file(tmp_path: Path) -> None:
    assert dev_file(tmp_path, "mood") is None
    file = write_lines(tmp_path / "mood-dev.jsonl", reviews(2))
    assert dev_file(tmp_path, "mood") == file
    (tmp_path / "mood").mkdir()
    inner = write_lines(tmp_path / "mood" / "dev.jsonl.gz", reviews(2))
    assert dev_file(tmp_path, "mood") == inner
