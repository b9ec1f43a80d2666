from pathlib import Path

import pytest
import torch

from server.engine.mask_memory import free_memory, mask_memory

CPU = torch.device("cpu")


def _machine(root: Path, **files: str) -> Path:
    for name, contents in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents + "\n")
    return root


def test_what_the_machine_has_left_is_free(tmp_path: Path) -> None:
    root = _machine(tmp_path, **{"proc/meminfo": "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable: 4000 kB"})
    assert free_memory(root) == 4_096_000
    assert mask_memory(None, CPU, root) == 2_048_000


def test_a_group_may_have_less_left(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/job"
    root = _machine(
        tmp_path,
        **{
            "proc/meminfo": "MemAvailable: 4000 kB",
            "proc/self/cgroup": "0::/job",
            f"{group}/memory.max": "1000000",
            f"{group}/memory.current": "700000",
            f"{group}/memory.stat": "anon 5\ninactive_file 200000",
        },
    )
    assert free_memory(root) == 500_000
    (root / group / "memory.max").write_text("max\n")
    assert free_memory(root) == 4_096_000


def test_a_group_of_version_1_is_read(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/a"
    root = _machine(
        tmp_path,
        **{
            "proc/self/cgroup": "4:memory:/docker/a",
            f"{group}/memory.limit_in_bytes": "1000000",
            f"{group}/memory.usage_in_bytes": "1200000",
            f"{group}/memory.stat": "total_inactive_file 1000",
        },
    )
    assert free_memory(root) == 0


def test_where_nothing_is_told_there_is_no_limit(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    assert mask_memory(None, CPU, tmp_path) is None


def test_what_is_set_holds_and_all_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _machine(tmp_path, **{"proc/meminfo": "MemAvailable: 4000 kB"})
    with caplog.at_level("INFO"):
        assert mask_memory(1 << 20, CPU, root) == 1 << 20
        mask_memory(None, CPU, root)
    assert "masks may take 1.0 MiB" in caplog.text or "masks may take 1.0 MB" in caplog.text
    assert "half of the" in caplog.text


def test_this_machine_has_memory_left() -> None:
    assert (free_memory() or 1) > 0
