"""Limits: what a reader of bundles is willing to take in."""

from dataclasses import dataclass
from typing import Literal

from mask_store.errors import BundleTooLargeError


@dataclass(frozen=True)
class Limits:
    """Sizes that a reader is willing to take in.

    Attributes:
        file: Bytes of the whole file.
        header: Bytes of the JSON header with the manifest in it.
        values: Values in the header's JSON, counted by its commas and opening square brackets.
        objects: Objects in it, counted by its opening braces; a mask takes three.
        tensors: Masks and head tensors.
        tensor: Bytes of one mask or head tensor after decoding.
        total: Bytes of all masks and head tensors after decoding.
    """

    file: int = 1 << 30
    header: int = 1 << 22
    values: int = 1 << 18
    objects: int = 1 << 15
    tensors: int = 10_000
    tensor: int = 1 << 26
    total: int = 1 << 30

    def check(
        self,
        limit: Literal["file", "header", "values", "objects", "tensors", "tensor", "total"],
        what: str,
        size: int,
        *,
        unit: str = "bytes",
    ) -> None:
        """Refuse `what` where its size is over a limit.

        Raises:
            BundleTooLargeError: Names the limit.
        """
        allowed = getattr(self, limit)
        if size > allowed:
            raise BundleTooLargeError(f"{what}: {size} {unit}, over the {limit} limit of {allowed} {unit}")
