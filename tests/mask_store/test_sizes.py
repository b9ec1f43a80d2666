from mask_store import human_bytes


def test_bytes_are_written_for_people() -> None:
    assert [human_bytes(n) for n in (192, 1_200, 999_999, 8_921_088, 437_928_960, 5_000_000_000_000)] == [
        *("192 bytes", "1.2 KB", "1,000.0 KB", "8.9 MB", "437.9 MB", "5,000.0 GB")
    ]
