import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import pytest

from maskserve.__main__ import COMMANDS, main
from maskserve.completion import SHELLS, completion

BEGIN_WITH_B = ("batch-rows", "batch-tokens", "body-bytes", "bundle-bytes")


def test_help_has_a_line_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert any(line.split(maxsplit=1) == [name, command.text] for line in told.splitlines())


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"maskserve {version('maskserve')}\n"


def test_an_unknown_command_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["nonsense"])
    assert "'serve', 'learn'" in capsys.readouterr().err


def test_commands_end_with_the_code_of_the_package(tmp_path: Path) -> None:
    done = _maskserve("store", "--store", str(tmp_path), "list")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert _maskserve("serve").returncode == 2


@pytest.mark.parametrize("missing", ["pydantic_settings", "fastapi"])
def test_a_missing_extra_is_one_sentence(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    import_module("server.process")  # and torch, which can't be imported twice
    with patch.dict(sys.modules):  # as before anything of the server was imported
        for module in list(sys.modules):
            if module.partition(".")[0] == "server":
                del sys.modules[module]
        sys.modules[missing] = None  # type: ignore[assignment]
        assert main(["serve", "--base", "b", "--store", "s3://b/s"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"maskserve: serve needs {missing}: pip install 'maskserve[serve]'"


def test_a_library_that_misses_an_extra_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    code = "import sys; sys.modules['sklearn'] = None; from maskserve.__main__ import main; sys.exit(main())"
    options = "learn --task t --kind multiple-choice --base b --store s --train rows.jsonl --dev rows.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", code, *options.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert last == "maskserve: learn needs sklearn: pip install 'maskserve[train]'"
    assert done.returncode == 2


def test_outside_a_checkout_there_is_no_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("maskserve.__main__._ROOT", tmp_path)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_completion_is_printed_for_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert " ".join(COMMANDS) in script
        assert "@" not in script.replace("$@", "")
    with pytest.raises(SystemExit, match="2"):
        main(["completion"])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("s", {"serve", "search", "store"}),
        ("store --st", {"--store"}),
        (
            "serve --max-b",
            {
                "--max-batch-rows",
                "--max-batch-tokens",
                "--max-body-bytes",
                "--max-body-values",
                "--max-bundle-bytes",
            },
        ),
    ],
)
def test_bash_completes_commands_and_options(tmp_path: Path, typed: str, expected: set[str]) -> None:
    words = ["maskserve", *typed.split(" ")]
    script = tmp_path / "completion.bash"
    script.write_text(
        f'maskserve() {{ "{sys.executable}" -m maskserve "$@"; }}\n'
        + completion("bash", [*COMMANDS, "completion"])
        + f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}\n"
        + '_maskserve; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_can_be_read_by_them(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = completion(shell, list(COMMANDS))
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


def _maskserve(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "maskserve", *arguments], capture_output=True, text=True, check=False
    )
