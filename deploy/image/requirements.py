"""Requirements: prints what the package needs, or what some of its extras need, one requirement a line.

python requirements.py pyproject.toml              the package itself
python requirements.py pyproject.toml serve s3     these extras
"""

import sys
import tomllib
from pathlib import Path

file, *extras = sys.argv[1:]
project = tomllib.loads(Path(file).read_text(encoding="utf-8"))["project"]
lists = [project["optional-dependencies"][extra] for extra in extras] or [project["dependencies"]]
print(*(line for lines in lists for line in lines), sep="\n")
