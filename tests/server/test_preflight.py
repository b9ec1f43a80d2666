import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from server.preflight import problems
from server.settings import Settings

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _problems(**settings: Any) -> list[str]:
    return problems(Settings(**{"base": "owner/name", "store": "s3://bucket/masks", "port": 0, **settings}))


def test_a_hub_id_and_a_free_port_are_fine(tiny_bert: str) -> None:
    assert _problems() == []
    assert _problems(base="bert-base-uncased") == []
    assert _problems(base=tiny_bert) == []


@pytest.mark.parametrize("base", ["./nowhere", "/nowhere", "~/nowhere", "../owner/name", "some/where/else"])
def test_a_folder_that_is_not_there_is_named(base: str) -> None:
    (problem,) = _problems(base=base)
    assert problem.startswith(f"--base {base}: there is no such folder")


def test_a_folder_without_an_encoder_is_named(tmp_path: Path) -> None:
    (problem,) = _problems(base=str(tmp_path))
    assert "no config.json" in problem
    file = tmp_path / "model.safetensors"
    file.touch()
    (problem,) = _problems(base=str(file))
    assert "that is a file" in problem


def test_a_port_in_use_is_named_with_all_else_that_is_wrong() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        base, found = _problems(base="./nowhere", port=port)
    assert "no such folder" in base
    assert found == f"--port {port}: in use on 127.0.0.1; --port 0 takes a free one"


def test_an_address_of_another_machine_is_named() -> None:
    (problem,) = _problems(host="192.0.2.1")
    assert problem.startswith("--host 192.0.2.1: ")


def test_a_store_that_is_not_there_is_named_unless_it_is_to_be_made(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    (problem,) = _problems(store=str(missing))
    assert problem.startswith(f"no mask store at {missing}: ")
    assert problem.endswith("; --create-store makes an empty one")
    empty.mkdir()
    assert _problems(store=str(missing), create_store=True) == []
    assert _problems(store=str(empty)) == []
    assert not missing.exists()
    assert list(empty.iterdir()) == []


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    (problem,) = _problems(store=str(tmp_path), create_store=True)
    assert problem.startswith(f"{tmp_path}: expected ")


def test_a_keys_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (problem,) = _problems(keys_file=tmp_path / "keys.json")
    assert problem.startswith(f"--keys-file: the keys file {tmp_path / 'keys.json'} can't be read: ")


def test_no_temporary_folder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_found() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_found)
    (problem,) = _problems()
    assert "TMPDIR" in problem


def test_mistakes_are_told_without_torch(tmp_path: Path) -> None:
    code = "import sys; from server.__main__ import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    options = ["--base", str(tmp_path / "nowhere"), "--store", str(tmp_path / "none"), "--port", "0"]
    options += ["--keys-file", str(tmp_path / "keys.json")]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    base, store, keys = done.stderr.splitlines()
    assert "no such folder" in base
    assert "no mask store at" in store
    assert "the keys file" in keys


@LINUX
def test_sigterm_while_the_server_is_starting_ends_it(tiny_bert: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server", "--base", tiny_bert, "--store", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 30
        while not _catches(process.pid, signal.SIGTERM):
            assert time.monotonic() < end, "no handler was set"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def _catches(process: int, number: int) -> bool:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
