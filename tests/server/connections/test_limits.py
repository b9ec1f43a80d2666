import resource

import pytest

from server.connections import most_connections


@pytest.mark.parametrize(
    ("files", "wanted", "most"),
    [
        (64, 0, 4),
        (1024, 0, 1024),
        (1024, 100, 100),
        (1 << 20, 0, 4096),
        (1 << 20, 50_000, 50_000),
        (resource.RLIM_INFINITY, 0, 4096),
    ],
)
def test_connections_leave_files_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, files: int, wanted: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    monkeypatch.setattr("os.listdir", lambda _: ["a file"] * 60)
    expected = most if wanted or files != 1024 else 1024 - 60 - 32 - 8
    assert most_connections(wanted) == expected
