import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from masking.kernels.cpu import launch
from tests.masking.kernels.conftest import needs_kernels

ROOT = Path(__file__).parents[3]
CODE = """
import sys, tempfile
if "read-only" in sys.argv:
    __import__("os").access = lambda *_: False
if "no-folder" in sys.argv:
    def refuse(*_, **__):
        raise OSError("read-only file system")
    tempfile.mkdtemp = refuse
    __import__("pathlib").Path.mkdir = refuse
from masking.kernels.cpu import launch
from masking.kernels.cpu import cache
assert launch.available()
print(cache.CACHED, cache.config.CACHE_DIR)
"""


def _run(tmp_path: Path, *arguments: str, **variables: str) -> str:
    """Use the kernels where numba can write neither beside the code nor to the home."""
    if not (tmp_path / "home").exists():
        _lay_out(tmp_path)
    names = {"HOME": "home", "XDG_CACHE_HOME": "home", "TMPDIR": "tmp"}
    environment = os.environ | {name: str(tmp_path / place) for name, place in names.items()}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-B", "-c", CODE, *arguments],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _lay_out(tmp_path: Path) -> None:
    for package in ("masking", "mask_store"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [place for place in tmp_path.rglob("*") if place.is_dir()]:
        (folder / "__pycache__").touch()
    (tmp_path / "home").touch()
    (tmp_path / "tmp").mkdir()


@needs_kernels
@pytest.mark.slow
def test_kernels_are_kept_in_a_temporary_folder_where_nothing_else_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "tmp" / f"maskserve-kernels-{os.getuid()}"
    assert _run(tmp_path) == f"True {folder}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.rglob("*.nbi"))


@needs_kernels
@pytest.mark.slow
def test_kernels_are_compiled_at_each_start_where_nothing_can_be_written(tmp_path: Path) -> None:
    assert _run(tmp_path, "no-folder").startswith("False")


@needs_kernels
def test_a_folder_that_others_can_write_to_is_never_used(tmp_path: Path) -> None:
    from masking.kernels.cpu.cache import private_folder  # noqa: PLC0415 (imports numba)

    own = private_folder(tmp_path)
    assert own == private_folder(tmp_path)
    assert own is not None
    own.chmod(0o777)
    assert private_folder(tmp_path) not in (own, None)
    own.rmdir()
    (tmp_path / "elsewhere").mkdir()
    own.symlink_to(tmp_path / "elsewhere")
    other = private_folder(tmp_path)
    assert other not in (own, None)
    assert private_folder(tmp_path / "nowhere") is None


@needs_kernels
def test_kernels_compiled_ahead_are_copied_once(tmp_path: Path) -> None:
    from masking.kernels.cpu.cache import copy_kernels  # noqa: PLC0415 (imports numba)

    ahead, own = tmp_path / "ahead", tmp_path / "own"
    names = (
        "cpu_1/work.py311.nbi",
        "cpu_1/work.py311.1.nbc",
        "lines_2/turn.py311.nbi",
        "lines_2/turn.py311.1.nbc",
    )
    for name in names:
        (ahead / name).parent.mkdir(parents=True, exist_ok=True)
        (ahead / name).write_text(f"ahead: {name}")
    (own / "cpu_1").mkdir(parents=True)
    (own / "cpu_1" / "work.py311.nbi").write_text("compiled here, for two processors")
    copy_kernels(ahead, own)
    assert sorted(str(one.relative_to(own)) for one in own.rglob("*.nb*")) == sorted(
        name for name in names if name != "cpu_1/work.py311.1.nbc"
    )
    assert (own / "lines_2/turn.py311.1.nbc").read_text() == "ahead: lines_2/turn.py311.1.nbc"
    assert (own / "cpu_1/work.py311.nbi").read_text() == "compiled here, for two processors"


@needs_kernels
def test_only_a_folder_with_kernels_that_can_not_be_written_to_was_compiled_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masking.kernels.cpu import cache  # noqa: PLC0415 (imports numba)

    writable = True
    monkeypatch.setattr(os, "access", lambda *_: writable)
    monkeypatch.setattr("masking.kernels.cpu.cache.config.CACHE_DIR", str(tmp_path))
    (tmp_path / "kernel.nbi").touch()
    assert cache.compiled_ahead() is None
    writable = False
    assert cache.compiled_ahead() == tmp_path
    (tmp_path / "kernel.nbi").unlink()
    assert cache.compiled_ahead() is None
    monkeypatch.setattr("masking.kernels.cpu.cache.config.CACHE_DIR", "")
    assert cache.compiled_ahead() is None


@needs_kernels
@pytest.mark.slow
def test_kernels_compiled_ahead_are_not_compiled_again(tmp_path: Path) -> None:
    ahead = str(tmp_path / "ahead")
    assert _run(tmp_path, NUMBA_CACHE_DIR=ahead) == f"True {ahead}"
    told = _run(tmp_path, "read-only", NUMBA_CACHE_DIR=ahead, NUMBA_DEBUG_CACHE="1")
    assert "data loaded from" in told
    assert "data saved to" not in told
    assert str(tmp_path / "tmp" / f"maskserve-kernels-{os.getuid()}-") in told.splitlines()[-1]


def test_a_kernel_that_does_not_compile_leaves_the_work_to_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("LLVM is unhappy")

    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr(launch, "_try_out", broken)
    assert not launch.available.__wrapped__()
    assert "LLVM is unhappy" in caplog.text
