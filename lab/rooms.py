"""Rooms: source files per folder and longest chain of imports of each package, as a Markdown table.

    python -m lab.rooms

A chain counts floors: modules, each of which imports the next; imports for type checking alone are left out.
Of rooms, it counts what lies directly in a package, modules and folders, as one floor each.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

from lab.tables import markdown_table

PACKAGES = (
    "maskserve",
    "mask_store",
    "masking",
    "training",
    "server",
    "lab",
    "benchmarks",
    "experiments",
    "demo",
)
LARGEST_FOLDER_FILES = 12
ROOT = Path(__file__).parents[1]

Imports = Mapping[str, Set[str]]
"""The modules, or rooms, that each one imports."""


@dataclass(frozen=True)
class Package:
    """A package's folders and imports.

    Attributes:
        name: Its name.
        folders: Source files in each of its folders, by the folder's path.
        modules: Imports between its modules.
        rooms: Imports between its rooms.
    """

    name: str
    folders: Mapping[str, int]
    modules: Imports
    rooms: Imports

    @classmethod
    def read(cls, name: str) -> "Package":
        """Read a package that can be imported.

        Raises:
            ModuleNotFoundError: There is none of that name.
        """
        graph = grimp.build_graph(name, exclude_type_checking_imports=True, cache_dir=None)
        modules = {one: graph.find_modules_directly_imported_by(one) for one in graph.modules}
        return cls(name, count_files(ROOT / name), modules, _between_rooms(modules))


def count_files(folder: Path) -> dict[str, int]:
    """Count the source files of a folder and of each one below it, by path; without ``__init__.py``."""
    files = Counter(path.parent for path in folder.rglob("*.py") if path.name != "__init__.py")
    return {str(place.relative_to(folder.parent)): count for place, count in sorted(files.items())}


def longest_chain(imports: Imports) -> list[str]:
    """Return a longest chain, from the module that nobody in it imports down.

    Raises:
        graphlib.CycleError: Modules import each other; the second argument is the cycle.
    """
    chains: dict[str, list[str]] = {}
    for module in TopologicalSorter(imports).static_order():
        below = max((chains[one] for one in sorted(imports.get(module, ()))), key=len, default=[])
        chains[module] = [module, *below]
    return max(chains.values(), key=len)


def _between_rooms(modules: Imports) -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {}
    for module, imported in modules.items():
        room = _room(module)
        others = {_room(one) for one in imported}
        rooms.setdefault(room, set()).update(others - {room})
    return rooms


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def main() -> int:
    """Print the table and the longest chains; return the exit code."""
    packages = [Package.read(name) for name in PACKAGES]
    rows = [
        [
            one.name,
            ", ".join(f"{folder} {count}" for folder, count in one.folders.items()),
            _floors(one.modules),
            _floors(one.rooms),
        ]
        for one in packages
    ]
    print(markdown_table(["package", "source files by folder", "floors of modules", "floors of rooms"], rows))
    return 0


def _floors(imports: Imports) -> str:
    try:
        chain = longest_chain(imports)
    except CycleError as error:
        return f"cycle: {' > '.join(error.args[1])}"
    return f"{len(chain)}: {' > '.join(chain)}"


if __name__ == "__main__":
    sys.exit(main())
