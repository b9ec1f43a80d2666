"""Sizes: numbers of bytes, written for people."""

KILOBYTE_BYTES = 1000


def human_bytes(count: int) -> str:
    """Write a number of bytes with a decimal unit: 900 bytes, 1.2 KB, 90.9 MB.

    Args:
        count: Bytes, at least 0.
    """
    if count < KILOBYTE_BYTES:
        return f"{count} bytes"
    size, unit = count / KILOBYTE_BYTES, "KB"
    for larger_unit in ("MB", "GB"):
        if size < KILOBYTE_BYTES:
            break
        size, unit = size / KILOBYTE_BYTES, larger_unit
    return f"{size:,.1f} {unit}"
