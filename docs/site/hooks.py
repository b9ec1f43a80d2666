"""Site: the pages that `mkdocs build` makes beside docs/*.md, and links that lead from page to page.

README.md is the front page. Pages of the Python API list each package's public names, so that none is
missing. What a page links to in the repository and not on the site is named, without a link.
"""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from os.path import normpath, relpath
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs/"
RESULTS = "experiments/results"
PACKAGES = ("maskserve", "masking", "mask_store", "training", "server")
# Pages of files that are not in docs/, or that would be the front page there.
MOVED = {
    "README.md": "index.md",
    "docs/README.md": "pages.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "docs/tutorial.ipynb": "tutorial.md",
    RESULTS: "results/index.md",
}
_FENCE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/, and their pictures."""
    for source, page in MOVED.items():
        if source.endswith(".md"):
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    tutorial = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    files.append(File.generated(config, MOVED["docs/tutorial.ipynb"], content=notebook_page(tutorial)))
    files.append(File.generated(config, MOVED[RESULTS], content=_list_results()))
    for path in sorted((ROOT / RESULTS).glob("*.md")):
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    for package in PACKAGES:
        files.append(File.generated(config, f"reference/{package}.md", content=reference_page(package)))
    for place in ("benchmarks/figures", RESULTS):
        for path in sorted((ROOT / place).glob("*.png")):
            files.append(File.generated(config, _on_site(f"{place}/{path.name}"), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead a page's links to pages; those in blocks of code stay as they are."""
    name = page.file.src_uri
    if name == "index.md":
        page.meta["hide"] = ["navigation"]  # of its part of the site, which is this page alone
    origin = next((source for source, moved in MOVED.items() if moved == name), _in_repository(name))
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda found: _led(found, origin, name, files), part) for part in parts[::2]]
    return "".join(parts)


def reference_page(package: str) -> str:
    """Write the page of a package: what it is for, then its functions, classes, errors and constants."""
    module = import_module(package)
    kinds: dict[str, list[str]] = {"Functions": [], "Classes and types": [], "Errors": [], "Constants": []}
    for name in sorted(set(module.__all__) - {"__version__"}):
        kinds[_kind_of(name)].append(name)
    parts = [f"# {package}", str(module.__doc__).strip()]
    for kind, names in kinds.items():
        if names:
            parts += [f"## {kind}", *(f"::: {package}.{name}" for name in names)]
    return "\n\n".join(parts) + "\n"


def _kind_of(name: str) -> str:
    if name.endswith("Error"):
        return "Errors"
    if name.isupper():
        return "Constants"
    return "Functions" if name.islower() else "Classes and types"


def notebook_page(notebook: dict[str, list[dict[str, object]]]) -> str:
    """Write a notebook as a page: texts, code, and what the code printed."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell_parts(cell)) + "\n"


def _cell_parts(cell: dict[str, object]) -> Iterator[str]:
    text = _joined(cell["source"])
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield f"```python\n{text}\n```"
    outputs = cell["outputs"]
    assert isinstance(outputs, list)
    printed = "".join(_joined(output["text"]) for output in outputs)
    if printed:
        yield f"```text\n{printed.rstrip()}\n```"


def _joined(lines: object) -> str:
    return lines if isinstance(lines, str) else "".join(lines)  # type: ignore[attr-defined]


def _list_results() -> str:
    lines = ["# Results", "Tables and figures of the [experiments](../../docs/experiments.md)."]
    for path in sorted((ROOT / RESULTS).glob("*.md")):
        title = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n\n".join([*lines[:2], "\n".join(lines[2:])]) + "\n"


def _led(found: re.Match[str], origin: str, page: str, files: Files) -> str:
    picture, label, target = found.groups()
    label = _LINK.sub(lambda inner: _led(inner, origin, page, files), label)  # a picture in a link
    if ":" in target or target.startswith("#"):
        return f"{picture}[{label}]({target})"
    path, mark, anchor = target.partition("#")
    there = _on_site(normpath(PurePosixPath(origin).parent / path))
    file = files.get_file_from_path(there)
    if file is None or not file.inclusion.is_included():
        return label
    start = PurePosixPath(page).parent
    return f"{picture}[{label}]({relpath(there, start)}{mark}{anchor})"


def _on_site(path: str) -> str:
    """Say where a file of the repository is on the site, if it is there."""
    if path in MOVED:
        return MOVED[path]
    return re.sub(f"^(?:{DOCS}|(?:experiments|benchmarks)/(?=results|figures))", "", path)


def _in_repository(page: str) -> str:
    """Say which file of the repository a page is."""
    return f"experiments/{page}" if page.startswith("results/") else f"{DOCS}{page}"
