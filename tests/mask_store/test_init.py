import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from mask_store import MaskStore, errors
from tests.support.bundles import version_bundle


def test_public_api() -> None:
    error_names = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert set(import_module("mask_store").__all__) == error_names | {
        "MAX_CLASSES",
        "MAX_CONFUSION_LABELS",
        "MAX_MEMBERS",
        "BinInfo",
        "ClassInfo",
        "EvaluationInfo",
        "MIN_MEMBERS",
        "WITHOUT_CLASSES",
        "BaseInfo",
        "BundleCache",
        "SignManifest",
        "WordPiece",
        "HeadActivation",
        "ChangedRows",
        "CopyInfo",
        "BitsInfo",
        "LayerBits",
        "BitsEncoding",
        "BundleDiff",
        "BundleMember",
        "CombineRule",
        "Encoding",
        "EnsembleManifest",
        "HeadMode",
        "HeadTensorInfo",
        "JsonScalar",
        "LayerDiff",
        "LayerInfo",
        "LearnedInfo",
        "Limits",
        "Manifest",
        "MaskBundle",
        "MaskStore",
        "MaskingInfo",
        "MemberInfo",
        "Pooling",
        "Problem",
        "Pruned",
        "RiceEncoding",
        "Snapshot",
        "History",
        "Rollback",
        "TaskKind",
        "TaskManifest",
        "Traffic",
        "TrafficPlan",
        "AbortRule",
        "Hold",
        "VersionInfo",
        "escape_controls",
        "human_bytes",
        "ensemble_of",
        "one_line",
        "pack_bits",
        "read_bundle",
        "unpack_bits",
        "write_bundle",
    }


def test_errors_are_drawn_in_their_module() -> None:
    drawing = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert f" {name}" in drawing
            assert issubclass(value, errors.MaskStoreError)


def test_needs_no_torch() -> None:
    code = "import sys, mask_store, mask_store.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_file_locks_a_store_can_be_read_and_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    MaskStore.open(tmp_path, create=True).publish(version_bundle())
    code = f"""
import sys
sys.modules["fcntl"] = None
from mask_store import MaskStore, StoreNotWritableError
store = MaskStore.open({str(tmp_path)!r})
print(store.load("demo").manifest.task)
try:
    store.publish(store.load("demo"))
except StoreNotWritableError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("demo\nthe store can't be written to:")
    assert "this system has no file locks (fcntl)" in done.stdout
