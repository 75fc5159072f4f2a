"""Install a package into a folder of the import path, as pip would, without building it."""

import shutil
import tomllib
from pathlib import Path

EXAMPLE = Path(__file__).parent / "example_package"


def install(project: Path, site: Path) -> Path:
    """Copy the package of a project, with its metadata and entry points; returns `site`."""
    given = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name = given["name"].replace("-", "_")
    shutil.copytree(project / name, site / name)
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in given["entry-points"].items()
    ]
    describe(site, given["name"], "\n".join(groups), given["version"])
    return site


def describe(site: Path, name: str, entry_points: str, version: str = "1.0") -> None:
    """Write the metadata of a package with these entry points."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(metadata)
    (folder / "entry_points.txt").write_text(entry_points)
