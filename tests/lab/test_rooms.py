from graphlib import CycleError
from pathlib import Path

import pytest

from lab.rooms import count_files, longest_chain


def test_files_are_counted_folder_by_folder(tmp_path: Path) -> None:
    for name in ("__init__.py", "a.py", "b.py", "README.md", "room/__init__.py", "room/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert count_files(tmp_path) == {tmp_path.name: 2, f"{tmp_path.name}/room": 1}


def test_the_longest_chain_of_imports() -> None:
    imports = {"main": {"low", "high"}, "high": {"middle"}, "middle": {"low"}, "low": set(), "alone": set()}
    assert longest_chain(imports) == ["main", "high", "middle", "low"]


def test_a_cycle_is_named() -> None:
    with pytest.raises(CycleError) as raised:
        longest_chain({"a": {"b"}, "b": {"a"}})
    assert set(raised.value.args[1]) == {"a", "b"}
