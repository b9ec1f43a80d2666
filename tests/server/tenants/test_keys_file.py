import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from server.tenants.keys_file import (
    KeyEntry,
    KeysFileError,
    changing,
    hash_of,
    new_key,
    parse_keys,
    read_keys,
)

HASH = sha256(b"a key").hexdigest()
SECRET = "msk_what-nobody-may-see"


def entry(name: str = "team-a", **others: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(name.encode()).hexdigest(), "tasks": ["*"], **others}


def test_keys_are_random_and_only_their_hash_is_kept() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"msk_[A-Za-z0-9_-]{43}", key) for key in keys)
    assert hash_of("a key").hex() == HASH


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Invalid JSON"),
        ("{}", "keys: Field required"),
        ({"keys": [entry(sha256=SECRET)]}, "keys.0.sha256: String should match"),
        ({"keys": [entry("no spaces")]}, "keys.0.name"),
        ({"keys": [entry("(admin)")]}, "keys.0.name"),
        ({"keys": [entry(tasks=[])]}, "keys.0.tasks"),
        ({"keys": [entry(tasks=["a b"])]}, "keys.0.tasks.0"),
        ({"keys": [entry(rows_per_second=0)]}, "keys.0.rows_per_second"),
        ({"keys": [entry(rows_in_flight=0)]}, "keys.0.rows_in_flight"),
        ({"keys": [{**entry(), SECRET: 1}]}, "keys.0.?: Extra inputs"),
        ({"keys": [entry(), entry()]}, "has the name of key 'team-a' twice"),
        ({"keys": [entry(sha256=HASH), entry("team-b", sha256=HASH)]}, "the sha256 of key 'team-a' twice"),
        ({"keys": [entry(f"{SECRET} {number}") for number in range(9)]}, "and 6 more"),
    ],
)
def test_what_is_wrong_is_told_without_what_is_there(content: object, message: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(KeysFileError, match=re.escape(message)) as refused:
        parse_keys(text.encode(), "keys.json")
    assert SECRET not in str(refused.value)


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeysFileError, match="No such file"):
        read_keys(tmp_path / "none.json")
    with pytest.raises(KeysFileError, match="Is a directory"):
        read_keys(tmp_path)


def test_a_change_is_whole_and_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with changing(file) as keys:
        keys.append(KeyEntry.model_validate(entry()))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    before = file.read_bytes()
    with pytest.raises(KeysFileError, match="twice"), changing(file) as keys:
        keys.append(keys[0])
    assert file.read_bytes() == before
    with changing(file) as keys:
        keys.append(KeyEntry.model_validate(entry("team-b")))
    assert [key.name for key in read_keys(file)] == ["team-a", "team-b"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_changes_at_once_lose_nothing(tmp_path: Path) -> None:
    def add(number: int) -> None:
        with changing(tmp_path / "keys.json") as keys:
            keys.append(KeyEntry.model_validate(entry(f"key-{number}")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert len(read_keys(tmp_path / "keys.json")) == 24


def test_where_nothing_can_be_written_it_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(KeysFileError, match="can't be written: No such file"),
        changing(tmp_path / "no" / "f"),
    ):
        pass
