"""Both images are built, and do under tight limits what they are for."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.support.serving import ROOT

FOLDER = ROOT / "deploy" / "image"
MISSING = [tool for tool in ("buildah", "podman") if shutil.which(tool) is None]
MISSING += ["PYTHON_IMAGE, the image to begin with"] if "PYTHON_IMAGE" not in os.environ else []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
def test_the_images_are_built_and_do_what_they_are_for() -> None:
    done = subprocess.run([FOLDER / "build_and_try.sh"], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("all as it should be\n")


def test_the_lists_of_packages_are_those_of_the_extras() -> None:
    def listed(*extras: str) -> list[str]:
        command = [sys.executable, str(FOLDER / "requirements.py"), str(ROOT / "pyproject.toml"), *extras]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert any(line.startswith("torch>=") for line in listed())
    assert [line for line in listed("serve", "s3") if line not in listed("serve")] == listed("s3")
    assert any(line.startswith("numba>=") for line in listed("serve"))


def test_compose_mounts_what_is_there_and_builds_what_is_described() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    targets = [service["build"]["target"] for service in services.values() if "build" in service]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert targets == ["serve", "train"]
    assert all(f" AS {target}\n" in dockerfile for target in targets)
    mounts = [volume.split(":")[0] for service in services.values() for volume in service["volumes"]]
    assert all((ROOT / mount).is_dir() for mount in mounts if mount.startswith("./deploy"))
    assert services["server"]["read_only"]
    assert services["learn"]["cap_drop"] == ["ALL"]
