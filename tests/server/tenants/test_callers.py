import hmac
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from server.errors import AdminDisabledError, ForbiddenError, KeyLimitError, UnauthorizedError
from server.tenants import callers as callers_module
from server.tenants.caller import NOBODY, one_of
from server.tenants.callers import ADMIN, SHARED, Callers
from server.tenants.keys_file import KeysFileError, hash_of

KEYS = {"team-a": "msk_first", "team-b": "msk_second"}


def write(file: Path, *names: str, **others: Any) -> None:
    """A keys file as it was some time ago; `others` are fields of every key."""
    fields = {"tasks": ["sentiment", "guard-*"], **others}
    keys = [{"name": name, "sha256": hash_of(KEYS[name]).hex(), **fields} for name in names]
    file.write_text(json.dumps({"keys": keys}))
    os.utime(file, (time.time() - 100, time.time() - 100))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_without_keys_everyone_may_call_and_nobody_administrates() -> None:
    callers = Callers()
    for key in ("", "anything"):
        assert callers.client(key).name == ""
        assert callers.client(key).may_call("whatever")
        with pytest.raises(AdminDisabledError):
            callers.admin(key)


def test_keys_of_the_settings_may_call_everything() -> None:
    callers = Callers(["one"], "all")
    assert callers.client("one").name == SHARED
    assert (callers.client("all").name, callers.admin("all").name) == (ADMIN, ADMIN)
    for wrong in ("", "two", "ONE", "one "):
        with pytest.raises(UnauthorizedError):
            callers.client(wrong)
    with pytest.raises(UnauthorizedError):
        callers.admin("one")


def test_the_admin_key_alone_asks_nobody_for_a_key() -> None:
    callers = Callers(admin_key="all")
    assert callers.client("").name == ""
    assert callers.client("all").name == ADMIN


def test_keys_of_the_file_have_names_tasks_and_limits(file: Path) -> None:
    write(file, "team-a", rows_per_second=2)
    callers = Callers(file=file)
    caller = callers.client(KEYS["team-a"])
    assert (caller.name, caller.admin) == ("team-a", False)
    may = {name: caller.may_call(name) for name in ("sentiment", "guard-spam", "sentiment2", "guard", "x")}
    assert may == {"sentiment": True, "guard-spam": True, "sentiment2": False, "guard": False, "x": False}
    assert dict(caller.visible({"sentiment": 1, "x": 2})) == {"sentiment": 1}
    with pytest.raises(ForbiddenError, match="key 'team-a' may not call task 'x'"):
        caller.require("x")
    caller.quota.charge(2)
    with pytest.raises(KeyLimitError):
        caller.quota.check()
    for wrong in ("", "msk_", KEYS["team-b"], hash_of(KEYS["team-a"]).hex()):
        with pytest.raises(UnauthorizedError):
            callers.client(wrong)
    with pytest.raises(AdminDisabledError):
        callers.admin(KEYS["team-a"])


def test_a_key_may_change_its_tasks(file: Path) -> None:
    write(file, "team-a", admin=True)
    assert Callers(file=file).admin(KEYS["team-a"]).name == "team-a"


def test_patterns_are_those_of_a_shell() -> None:
    assert one_of(("a", "*")) is None
    pattern = one_of(("a.b", "n-[0-9]", "x?"))
    assert pattern is not None
    found = {name for name in ("a.b", "axb", "n-7", "n-x", "xy", "xyz", "a.b\n") if pattern.match(name)}
    assert found == {"a.b", "n-7", "xy"}


def test_who_was_not_asked_for_a_key_may_call_nothing() -> None:
    assert not any(map(NOBODY.may_call, ("", "sentiment", "*")))


def test_whole_hashes_are_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return hmac.compare_digest(a, b)

    class Counting:
        compare_digest = staticmethod(counting)

    write(file, *KEYS)
    callers = Callers(file=file)
    monkeypatch.setattr(callers_module, "hmac", Counting)
    callers.client(KEYS["team-b"])
    with pytest.raises(UnauthorizedError):
        callers.client("msk_wrong")
    assert compared == [(32, 32)] * 2  # once for each, found or not


def test_a_hash_that_begins_alike_is_another_one(file: Path) -> None:
    begins = hash_of("msk_wrong")[:8].hex()
    file.write_text(json.dumps({"keys": [{"name": "x", "sha256": begins + "0" * 48, "tasks": ["*"]}]}))
    with pytest.raises(UnauthorizedError):
        Callers(file=file).client("msk_wrong")


def test_a_file_that_changes_is_followed(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write(file, "team-a", rows_per_second=1)
    callers = Callers(file=file)
    callers.client(KEYS["team-a"]).quota.charge(1)
    write(file, "team-a", "team-b", rows_per_second=1, tasks=["*"])
    callers.poll()
    assert callers.names == {"team-a", "team-b"}
    caller = callers.client(KEYS["team-a"])
    assert caller.may_call("anything")
    with pytest.raises(KeyLimitError):  # what was used of a limit stays used
        caller.quota.check()
    write(file, "team-b")
    callers.poll()
    with pytest.raises(UnauthorizedError):
        callers.client(KEYS["team-a"])
    assert [message for message in caplog.messages if "keys file" in message] == [
        f"keys file {file}: 1 keys; new: team-a",
        f"keys file {file}: 2 keys; new: team-b",
        f"keys file {file}: 1 keys; gone: team-a",
    ]


def test_a_file_that_was_changed_just_now_is_read_again(file: Path) -> None:
    write(file, "team-a")
    now = time.time()
    os.utime(file, (now, now))
    callers = Callers(file=file)
    text, times = file.read_text().replace("team-a", "team-c"), file.stat()
    file.write_text(text)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # it looks as before
    callers.poll()
    assert callers.names == {"team-c"}


@pytest.mark.parametrize("content", ["{", '{"keys": [{"name": "msk_first"}]}', None])
def test_a_broken_file_keeps_the_keys(
    file: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, "team-a")
    callers = Callers(file=file)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    for _ in range(3):
        callers.poll()
    assert callers.problem is not None
    assert callers.client(KEYS["team-a"]).name == "team-a"
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1  # not once a second
    assert "in force" in told[0].getMessage()
    assert "msk_" not in caplog.text
    write(file, "team-b")
    callers.poll()
    assert callers.problem is None
    assert callers.names == {"team-b"}


def test_a_file_that_is_wrong_at_start_is_told(file: Path) -> None:
    with pytest.raises(KeysFileError, match=r"the keys file .* can't be read"):
        Callers(file=file)
    file.write_text("{}")
    with pytest.raises(KeysFileError, match=r".*keys: Field required"):
        Callers(file=file)


def test_an_empty_file_lets_nobody_in(file: Path) -> None:
    file.write_text('{"keys": []}')
    with pytest.raises(UnauthorizedError):
        Callers(file=file).client("")
