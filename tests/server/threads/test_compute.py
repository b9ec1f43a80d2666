import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.threads.compute import allowed_threads, cpu_quota, leave_cores_free


def _machine(root: Path, groups: str, **quotas: str) -> Path:
    """A folder with proc and sys, whose control groups have quotas: by folder, "quota period"."""
    files = {"proc/self/cgroup": groups} | quotas
    for name, contents in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents + "\n")
    return root


def _v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    place = f"sys/fs/cgroup/{folder}"
    return {f"{place}/cpu.cfs_quota_us": str(quota), f"{place}/cpu.cfs_period_us": str(period)}


def test_a_quota_of_version_2_is_read(tmp_path: Path) -> None:
    root = _machine(tmp_path, "0::/job", **{"sys/fs/cgroup/job/cpu.max": "150000 100000"})
    assert cpu_quota(root) == 1.5


def test_max_is_no_quota(tmp_path: Path) -> None:
    root = _machine(tmp_path, "0::/job", **{"sys/fs/cgroup/job/cpu.max": "max 100000"})
    assert cpu_quota(root) is None


def test_the_smallest_quota_of_nested_groups_counts(tmp_path: Path) -> None:
    root = _machine(
        tmp_path,
        "0::/pods/pod/container",
        **{
            "sys/fs/cgroup/pods/cpu.max": "800000 100000",
            "sys/fs/cgroup/pods/pod/cpu.max": "200000 100000",
            "sys/fs/cgroup/pods/pod/container/cpu.max": "max 100000",
        },
    )
    assert cpu_quota(root) == 2.0


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    root = _machine(tmp_path, "0::/", **{"sys/fs/cgroup/cpu.max": "50000 100000"})
    assert cpu_quota(root) == 0.5


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_a_quota_of_version_1_is_read(tmp_path: Path, mount: str) -> None:
    groups = f"5:memory:/docker/a\n4:{mount}:/docker/a\n0::/system.slice"
    root = _machine(tmp_path, groups, **_v1(f"{mount}/docker/a", 300_000))
    assert cpu_quota(root) == 3.0


def test_version_1_in_a_container_has_its_quota_at_the_mount(tmp_path: Path) -> None:
    root = _machine(tmp_path, "4:cpu,cpuacct:/docker/a", **_v1("cpu,cpuacct", 150_000, 50_000))
    assert cpu_quota(root) == 3.0


def test_minus_one_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(_machine(tmp_path, "4:cpu:/", **_v1("cpu", -1))) is None


def test_there_is_no_quota_without_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "threads"), [("max", 8), ("20000", 1), ("100000", 1), ("110000", 2), ("6400000", 8)]
)
def test_threads_follow_the_quota_up_to_the_cores(tmp_path: Path, quota: str, threads: int) -> None:
    root = _machine(tmp_path, "0::/", **{"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    assert allowed_threads(8, root) == threads


def test_threads_leave_cores_free_unless_the_user_chose() -> None:
    environment: dict[str, str] = {}
    leave_cores_free(environment)
    assert environment == {"OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
    for chosen in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "100"}):
        environment = chosen | {"TOKENIZERS_PARALLELISM": "true"}
        before = dict(environment)
        leave_cores_free(environment)
        assert environment == before


def test_the_server_sets_how_threads_wait_before_torch_is_loaded(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from server import __main__
        os.environ.pop("OMP_WAIT_POLICY", None)
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "torch":
                    sys.exit("waits: " + os.environ.get("OMP_WAIT_POLICY", "not set"))
        sys.meta_path.insert(0, Finder())
        __main__.main(["--base", "nothing", "--store", "s3://nothing/here"])
    """
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stderr.endswith("waits: passive\n")
