"""The house as it is meant to be: small rooms, and imports that run one way."""

from pathlib import Path

import pytest

from lab.rooms import LARGEST_FOLDER_FILES, PACKAGES, Package, count_files, longest_chain

SERVER_FLOORS = 9


@pytest.mark.parametrize("folder", [*PACKAGES, "tests/support"])
def test_no_folder_has_too_many_files(folder: str) -> None:
    counts = count_files(Path(__file__).parents[1] / folder)
    assert {place: count for place, count in counts.items() if count > LARGEST_FOLDER_FILES} == {}


@pytest.mark.parametrize("name", PACKAGES)
def test_no_modules_and_no_rooms_import_each_other(name: str) -> None:
    package = Package.read(name)
    assert longest_chain(package.modules)  # raises where there is a cycle
    assert longest_chain(package.rooms)


def test_the_server_has_few_floors() -> None:
    assert len(longest_chain(Package.read("server").rooms)) <= SERVER_FLOORS
