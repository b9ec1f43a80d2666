import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.bundles import bundle_of
from tests.support.callbacks import Killed
from training.errors import RunFolderError, RunInUseError, RunMismatchError
from training.loop.run_folder import BUNDLE, COMPLETE, RunFolder

IDENTITY = {"lr": 0.001, "labels": ("a", "b"), "data": "sha256:" + "0" * 64}


def _write(folder: RunFolder, step: int, best: int) -> None:
    folder.checkpoint(step).mkdir()
    (folder.checkpoint(step) / "learned.safetensors").write_bytes(b"x")
    folder.keep_only(step, best)


def _steps(path: Path) -> list[str]:
    return sorted(folder.name for folder in path.glob("checkpoint-*"))


def test_only_the_newest_and_the_best_checkpoint_stay(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "deep" / "run", IDENTITY) as folder:
        assert folder.last_checkpoint() is None
        for step, best in ((5, 5), (10, 5), (15, 5), (20, 20)):
            _write(folder, step, best)
            assert folder.last_checkpoint() == folder.checkpoint(step)
            assert _steps(folder.path) == sorted({f"checkpoint-{step}", f"checkpoint-{best}"})


def test_a_run_goes_on_with_the_same_identity(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        assert folder.last_checkpoint() == folder.checkpoint(5)


def test_a_checkpoint_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
        folder.checkpoint(10).mkdir()
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        assert folder.last_checkpoint() == folder.checkpoint(5)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
    changed = IDENTITY | {"lr": 0.002}
    with (
        pytest.raises(RunMismatchError, match=r"lr: 0\.001, now 0\.002\).*--fresh"),
        RunFolder.open(tmp_path, changed),
    ):
        pass
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        assert folder.last_checkpoint(), "a refusal must leave the unfinished run as it was"
    with RunFolder.open(tmp_path, changed, fresh=True) as folder:
        assert folder.last_checkpoint() is None


def test_without_a_whole_checkpoint_other_settings_are_welcome(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        folder.checkpoint(5).mkdir()
    with RunFolder.open(tmp_path, IDENTITY | {"lr": 0.002}) as folder:
        assert _steps(folder.path) == []


def test_a_lost_record_is_a_mismatch(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunMismatchError), RunFolder.open(tmp_path, IDENTITY):
        pass


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path, IDENTITY),
        pytest.raises(RunInUseError, match="another process"),
        RunFolder.open(tmp_path, IDENTITY),
    ):
        pass
    with RunFolder.open(tmp_path, IDENTITY):
        pass


def test_a_finished_run_leaves_its_report_and_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint-final").mkdir()
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
        folder.finish({"task": "demo"})
    left = {path.name for path in tmp_path.iterdir()} - {"lock"}
    assert left == {"notes.txt", "checkpoint-final", "report.json"}
    assert json.loads((tmp_path / "report.json").read_text()) == {"task": "demo"}


@pytest.mark.parametrize("operations", range(9))
def test_a_run_killed_while_it_is_finished_resumes_whole_or_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operations: int
) -> None:
    left = operations

    def killed_after(work: Callable[..., object]) -> Callable[..., object]:
        def operate(*arguments: object, **named: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return work(*arguments, **named)

        return operate

    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
        _write(folder, 10, 5)
        folder.keep(bundle_of())
        with monkeypatch.context() as patch, suppress(Killed):
            for place, name in ((Path, "write_text"), (Path, "unlink"), (shutil, "rmtree")):
                patch.setattr(place, name, killed_after(getattr(place, name)))
            folder.finish({"task": "demo"})
    published = not (tmp_path / "run.json").exists()
    assert published == (operations > 1)
    with RunFolder.open(tmp_path, IDENTITY | {"lr": 0.002} if published else IDENTITY) as folder:
        assert (folder.kept() is None) == published
        assert _steps(tmp_path) == ([] if published else ["checkpoint-10", "checkpoint-5"])
        assert folder.last_checkpoint() == (None if published else folder.checkpoint(10))
        folder.finish({"task": "demo"})
        assert not folder.has_remains


def test_checkpoints_are_marked_as_removed_before_the_first_of_them_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise Killed

    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
        _write(folder, 10, 5)
        monkeypatch.setattr("training.loop.run_folder.shutil.rmtree", fail)
        with pytest.raises(Killed):
            folder.drop_checkpoints()
        assert folder.last_checkpoint() is None


def test_a_kept_mask_is_dropped_when_the_run_learns_more(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
        folder.keep(bundle_of())
        _write(folder, 10, 5)
        assert folder.kept() is None


def test_a_mask_that_waits_takes_the_place_of_checkpoints(tmp_path: Path) -> None:
    bundle = bundle_of()
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        assert folder.kept() is None
        _write(folder, 5, 5)
        folder.keep(bundle)
        folder.drop_checkpoints()
        assert _steps(tmp_path) == []
    with pytest.raises(RunMismatchError), RunFolder.open(tmp_path, IDENTITY | {"lr": 0.002}):
        pass
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        kept = folder.kept()
        assert kept is not None
        assert kept.digest == bundle.digest
        folder.finish({})
        assert folder.kept() is None


def test_a_mask_that_waits_is_dropped_for_a_fresh_run_and_refused_when_damaged(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        folder.keep(bundle_of())
        (tmp_path / BUNDLE).write_bytes(b"cut")
        with pytest.raises(RunFolderError, match="--fresh"):
            folder.kept()
    with RunFolder.open(tmp_path, IDENTITY, fresh=True) as folder:
        assert folder.kept() is None


def test_a_mask_that_can_not_be_kept_leaves_the_checkpoints(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
        (tmp_path / BUNDLE).mkdir()
        with pytest.raises(RunFolderError, match="can't be kept"):
            folder.keep(bundle_of())
        assert folder.last_checkpoint() is not None
        (tmp_path / BUNDLE).rmdir()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunFolderError, match="can't be written"),
        RunFolder.open(tmp_path / "file" / "run", IDENTITY),
    ):
        pass


def test_the_mark_goes_first_so_that_half_removed_checkpoints_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError("disk")

    with RunFolder.open(tmp_path, IDENTITY) as folder:
        _write(folder, 5, 5)
        monkeypatch.setattr("training.loop.run_folder.shutil.rmtree", fail)
        with pytest.raises(OSError, match="disk"):
            _write(folder, 10, 10)
        assert not (folder.checkpoint(5) / COMPLETE).exists()
        assert folder.last_checkpoint() == folder.checkpoint(10)
