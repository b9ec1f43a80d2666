"""The packages' faces: their public names, what importing them loads, and that users get their types."""

import subprocess
import sys
from importlib import import_module
from importlib.resources import files

import pytest

PACKAGES = ["mask_store", "masking", "training", "server", "maskserve"]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_resolves(name: str) -> None:
    package = import_module(name)
    assert package.__all__
    assert set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        getattr(package, public)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        package.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize("name", ["mask_store", "masking"])
def test_every_error_is_public(name: str) -> None:
    errors = import_module(f"{name}.errors")
    classes = {key for key, value in vars(errors).items() if isinstance(value, type)}
    assert classes <= set(import_module(name).__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_importing_a_package_loads_none_of_its_dependencies(name: str) -> None:
    code = (
        f"import sys, {name}; sys.exit(str({{'torch', 'numpy', 'pydantic', 'fastapi'}} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"


@pytest.mark.parametrize("name", PACKAGES)
def test_type_checkers_see_the_types(name: str) -> None:
    assert files(name).joinpath("py.typed").is_file()
