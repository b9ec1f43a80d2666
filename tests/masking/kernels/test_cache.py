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


def _run(tmp_path: Path, *arguments: str) -> str:
    """Use the kernels where numba can write neither beside the code nor to the home."""
    for package in ("masking", "mask_store"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [place for place in tmp_path.rglob("*") if place.is_dir()]:
        (folder / "__pycache__").touch()
    (tmp_path / "home").touch()
    (tmp_path / "tmp").mkdir()
    names = {"HOME": "home", "XDG_CACHE_HOME": "home", "TMPDIR": "tmp"}
    environment = os.environ | {name: str(tmp_path / place) for name, place in names.items()}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-B", "-c", CODE, *arguments],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


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


def test_a_kernel_that_does_not_compile_leaves_the_work_to_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("LLVM is unhappy")

    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr(launch, "_try_out", broken)
    assert not launch.available.__wrapped__()
    assert "LLVM is unhappy" in caplog.text
