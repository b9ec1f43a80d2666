"""Errors of the mask store: every error that this package raises on purpose.

    MaskStoreError
    ├── BundleError                  the bytes or the contents of a bundle are wrong
    │   ├── TruncatedBundleError     it ends before what its header announces
    │   ├── TrailingBytesError       it has bytes after the last tensor
    │   ├── BundleTooLargeError      it asks for more than the reader's limits allow
    │   ├── HeaderError              its header is not a safetensors header
    │   ├── TensorLayoutError        tensors leave holes, overlap or have sizes that do not fit
    │   ├── NotABundleError          a safetensors file, but without a mask bundle's manifest
    │   ├── FormatVersionError       a format version that this reader does not know
    │   ├── ManifestError            a manifest with a missing, unknown or impossible field
    │   ├── NonCanonicalError        the right contents, but not the one way to write them
    │   ├── ChecksumError            contents that changed after they were written
    │   ├── TensorSetError           a tensor that the manifest lacks, or the other way round
    │   ├── TensorTypeError          a tensor of another dtype than the format says
    │   ├── TensorShapeError         a tensor of another shape than the manifest says
    │   ├── PaddingError             unused bits that are not zero
    │   ├── ZeroCountError           another number of zeros than the manifest says
    │   ├── MaskCodingError          an entropy-coded mask that does not decode
    │   ├── HeadValueError           a tensor of numbers that holds NaN or infinity
    │   └── ScaleValueError          a scale of signs that is negative
    ├── EnsembleError                members that can't answer as one task
    └── StoreError                   the store can't do what it was asked to
        ├── InvalidTaskNameError     a name that no task can have
        ├── UnknownTaskError         no such task
        ├── UnknownVersionError      the task has no such version
        ├── NoEarlierVersionError    nothing to roll back to
        ├── CurrentVersionError      the current version can't be deleted alone
        ├── TrafficError             versions that can't be served side by side, or are
        ├── HeldError                a task that is pinned or unloaded, or is not
        ├── RecordError              a version record or current pointer that can't be read
        ├── MissingBundleError       a version whose bundle file is gone
        ├── LeftoverError            a file in a store that nothing names
        ├── NotAFileError            a link, a pipe or the like where a file or a folder should be
        ├── DigestMismatchError      a bundle file that is not the one that was published
        ├── StoreNotFoundError       there is no store at this place
        ├── StoreFormatError         a store of a layout that this version does not know
        ├── StoreNotWritableError    the place refuses to be written to
        ├── StoreFullError           no space left
        ├── StoreBusyError           others have written to it, or held its lock, for too long
        └── StoreUnavailableError    the place can't be reached, or failed while it was used

Messages say what was expected and what was found, on one line of at most `LONGEST_MESSAGE` characters: names
and texts that they quote are those of whoever wrote the file.
"""

from mask_store.messages import one_line


class MaskStoreError(Exception):
    """Base of all errors of this package."""

    def __init__(self, message: str) -> None:
        """Keep the message in a form that can be logged, sent and shown, whatever it quotes."""
        super().__init__(one_line(message))


class BundleError(MaskStoreError):
    """The bytes or the contents of a bundle are wrong."""


class TruncatedBundleError(BundleError):
    """The bundle ends before what its header announces."""


class TrailingBytesError(BundleError):
    """The bundle has bytes after its last tensor."""


class BundleTooLargeError(BundleError):
    """The bundle asks for more than the reader's limits allow."""


class HeaderError(BundleError):
    """The header is not a safetensors header."""


class TensorLayoutError(BundleError):
    """Tensors leave holes, overlap or have sizes that do not fit their shapes."""


class NotABundleError(BundleError):
    """A safetensors file, but without the manifest of a mask bundle."""


class FormatVersionError(BundleError):
    """The format version is not one that this reader knows."""


class ManifestError(BundleError):
    """The manifest has a missing, unknown or impossible field."""


class NonCanonicalError(BundleError):
    """The contents are right but not written in the one way the format allows."""


class ChecksumError(BundleError):
    """The contents changed after they were written."""


class TensorSetError(BundleError):
    """The tensors and the manifest do not name the same layers and head tensors."""


class TensorTypeError(BundleError):
    """A tensor has another dtype than the format says."""


class TensorShapeError(BundleError):
    """A tensor has another shape than the manifest says."""


class PaddingError(BundleError):
    """Unused bits that must be zero are not."""


class ZeroCountError(BundleError):
    """A mask has another number of zeros than the manifest says."""


class MaskCodingError(BundleError):
    """An entropy-coded mask does not decode."""


class HeadValueError(BundleError):
    """A tensor of numbers holds NaN or infinity."""


class ScaleValueError(BundleError):
    """A scale of signs is negative."""


class EnsembleError(MaskStoreError):
    """The members can't answer as one task."""


class StoreError(MaskStoreError):
    """The store can't do what it was asked to."""


class InvalidTaskNameError(StoreError):
    """No task can have this name."""


class UnknownTaskError(StoreError):
    """The store has no such task."""


class UnknownVersionError(StoreError):
    """The task has no such version."""


class NoEarlierVersionError(StoreError):
    """There is no earlier version to roll back to."""


class CurrentVersionError(StoreError):
    """The current version of a task can't be deleted alone."""


class TrafficError(StoreError):
    """Versions can't be served side by side as is wanted, or what is wanted can't be while they are."""


class HeldError(StoreError):
    """A task is pinned or unloaded and stays so until it is released, or there is nothing to release."""


class RecordError(StoreError):
    """A version record or a current pointer can't be read."""


class MissingBundleError(StoreError):
    """The bundle file of a version is gone."""


class DigestMismatchError(StoreError):
    """A bundle file is not the one that was published."""


class LeftoverError(StoreError):
    """A file in a store that nothing names, such as the bundle of a publish that was killed."""


class NotAFileError(StoreError):
    """A link, a pipe, a device or the like lies where a store has a file or a folder."""


class StoreNotFoundError(StoreError):
    """There is no store at this place."""


class StoreFormatError(StoreError):
    """The store has a layout that this version does not know."""


class StoreNotWritableError(StoreError):
    """The place of the store refuses to be written to."""


class StoreFullError(StoreError):
    """The place of the store has no space left."""


class StoreBusyError(StoreError):
    """Other processes have held the store's lock for too long."""


class StoreUnavailableError(StoreError):
    """The place of the store can't be reached, or failed while it was used."""
