"""Task history: the versions of a task that the store has, and what changed between two of them."""

from mask_store import BundleDiff, History, MaskStore, MaskStoreError, Traffic
from server.tasks.store_errors import refusal


class TaskHistory:
    """Looks into the store; safe to call from any thread. A look may wait for the store."""

    def __init__(self, store: MaskStore) -> None:
        """Look into `store`."""
        self._store = store

    def versions(self, name: str) -> History:
        """Return the versions of a task.

        Raises:
            TaskNotFoundError: The store has no such task.
            StoreUnreachableError: The store can't be read.
        """
        try:
            return self._store.history(name)
        except MaskStoreError as error:
            raise refusal(self._store, name, error) from error

    def traffic(self, name: str) -> Traffic | None:
        """Return the traffic of a task, active or aborted; None if it has none.

        Raises:
            TaskNotFoundError: The store has no such task.
            ConflictError: It can't be read.
            StoreUnreachableError: The store can't be read.
        """
        try:
            return self._store.traffic(name)
        except MaskStoreError as error:
            raise refusal(self._store, name, error) from error

    def diff(self, name: str, a: int, b: int | None) -> tuple[int, BundleDiff]:
        """Compare two versions bit by bit; both are read and checked whole.

        Args:
            name: The task.
            a: Number of the first version.
            b: Number of the second one; None for the store's current one.

        Returns:
            The number of the second version, and what changed.

        Raises:
            TaskNotFoundError: The store has no such task.
            VersionNotFoundError: The task has no such version.
            ConflictError: A version's file is damaged or gone.
            StoreUnreachableError: The store can't be read.
        """
        try:
            second = self._store.version(name, b).number
            return second, self._store.diff(name, a, second)
        except MaskStoreError as error:
            raise refusal(self._store, name, error) from error
