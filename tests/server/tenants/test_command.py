import json
from pathlib import Path

import pytest

from server.tenants.__main__ import main
from server.tenants.keys_file import hash_of, read_keys


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments, prog="maskserve keys")
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_key_is_printed_once_and_kept_as_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.json"
    options = ("--name", "team-a", "--tasks", "sentiment", "guard-*", "--rows-per-second", "200")
    code, key, told = run(capsys, "add", "--file", str(file), *options, "--rows-in-flight", "64")
    assert code == 0
    assert key.startswith("msk_")
    assert "shown this once" in told
    (entry,) = read_keys(file)
    assert bytes.fromhex(entry.sha256) == hash_of(key.strip())
    assert (entry.tasks, entry.rows_per_second, entry.rows_in_flight) == (("sentiment", "guard-*"), 200, 64)
    assert key.strip() not in file.read_text()
    assert run(capsys, "add", "--file", str(file), "--name", "ops", "--tasks", "*", "--admin")[0] == 0
    code, shown, _ = run(capsys, "list", "--file", str(file))
    assert [line.split() for line in shown.splitlines()][1][:6] == [
        "team-a",
        "sentiment",
        "guard-*",
        "200.0",
        "64",
        "-",
    ]
    assert shown.splitlines()[2].split()[:5] == ["ops", "*", "-", "-", "yes"]
    assert entry.sha256 not in shown
    listed = json.loads(run(capsys, "list", "--file", str(file), "--json")[1])["keys"]
    assert [key["name"] for key in listed] == ["team-a", "ops"]
    assert "sha256" not in listed[0]
    assert run(capsys, "remove", "--file", str(file), "--name", "team-a")[:2] == (0, "removed key 'team-a'\n")
    assert [key.name for key in read_keys(file)] == ["ops"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "--name", "ops", "--tasks", "*"), "has a key 'ops' already"),
        (("add", "--name", "not a name", "--tasks", "*"), "--name: String should match"),
        (("add", "--name", "x", "--tasks", "a/b"), "--tasks: String should match"),
        (("add", "--name", "x", "--tasks", "*", "--rows-per-second", "0"), "--rows-per-second: Input should"),
        (
            ("add", "--name", "x", "--tasks", "*", "--rows-per-second", "nan"),
            "--rows-per-second: Input should",
        ),
        (("add", "--name", "x", "--tasks", "*", "--rows-in-flight", "0"), "--rows-in-flight: Input should"),
        (("remove", "--name", "nobody"), "has no key 'nobody'"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "keys.json"
    run(capsys, "add", "--file", str(file), "--name", "ops", "--tasks", "*")
    before = file.read_bytes()
    code, out, told = run(capsys, *arguments, "--file", str(file))
    assert (code, out) == (1, "")
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
    assert file.read_bytes() == before


def test_a_list_of_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = run(capsys, "list", "--file", str(tmp_path / "none.json"))
    assert code == 1
    assert "can't be read: No such file" in told
