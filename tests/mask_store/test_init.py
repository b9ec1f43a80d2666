import inspect
import subprocess
import sys
from importlib import import_module

from mask_store import errors


def test_public_api() -> None:
    error_names = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert set(import_module("mask_store").__all__) == error_names | {
        "MAX_MEMBERS",
        "MIN_MEMBERS",
        "BaseInfo",
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
        "MaskingSettings",
        "MemberInfo",
        "Problem",
        "RiceEncoding",
        "ScoreGradient",
        "ScoreInit",
        "Snapshot",
        "TaskKind",
        "TaskManifest",
        "VersionInfo",
        "human_bytes",
        "ensemble_of",
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
