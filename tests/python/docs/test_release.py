# SPDX-License-Identifier: Apache-2.0
"""Versions, licences, and commands that pages, metadata, and workflows repeat are the same ones."""

import operator
import re
import zlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def minors():
    """The supported minor versions of torch, by the bounds of Requires-Dist."""
    low, high = re.search(
        r'^dependencies = \["torch>=2\.(\d+),<2\.(\d+)"\]', SETTINGS, re.M
    ).groups()
    return [f"2.{minor}" for minor in range(int(low), int(high))]


SETTINGS = read("pyproject.toml")
VERSION = read("python/torch_gumbel/VERSION").strip()


def test_files_name_this_version():
    assert f"\nversion: {VERSION}\n" in read("CITATION.cff")
    assert f'\nversion = "{VERSION}"\n' in SETTINGS
    for page in PAGES:
        wheels = set(re.findall(r"torch_gumbel-(\d[\w.]*)-py3", page.read_text(encoding="utf-8")))
        assert wheels <= {VERSION}, page


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{n}.md" for n in ("index", "pypi", "support"))]
)
def test_pages_name_the_supported_versions_of_torch(page):
    ranges = set(re.findall(r"(2\.\d+) to (2\.\d+)", read(page)))
    assert ranges == {(minors()[0], minors()[-1])}


def test_the_last_five_minor_versions_of_torch_are_supported_and_tried():
    assert len(minors()) == 5
    lines = read(".ci/torch_versions.txt").split()
    assert [re.match(r"torch==(2\.\d+)", line)[1] for line in lines] == minors()


def test_the_page_of_the_package_index_has_no_relative_link():
    assert not re.findall(r"\]\((?!https?://)|<img|!\[", read("docs/pypi.md"))


def test_licences_are_those_of_their_files():
    expression = re.search(r'^license = "(.*)"$', SETTINGS, re.M)[1]
    files = {path.stem for path in (ROOT / "LICENSES").iterdir()}
    assert set(expression.split(" AND ")) == files
    assert read("LICENSES/Apache-2.0.txt") == read("LICENSE")
    assert read("LICENSES/SunPro.txt").strip() in read("NOTICE")
    assert 'license-files = ["LICENSE", "NOTICE"]' in SETTINGS


def targets_in(text):
    """The targets of commands `make ...` in workflows, and in code of pages."""
    commands = re.findall(r"\bmake((?: +[a-z][a-z0-9-]*(?=[ `\n;)]|$))+)", text)
    return {name for command in commands for name in command.split()}


@pytest.mark.parametrize(
    "path", [*PAGES, *sorted((ROOT / ".github").rglob("*.yml"))], ids=lambda p: p.name
)
def test_commands_name_targets_of_the_makefile(path):
    known = set(re.findall(r"^([a-z][a-z0-9-]*):", read("Makefile"), re.M))
    text = path.read_text(encoding="utf-8")
    code = (
        r"(?<=`)make [^`\n]*|^(?:\w+=\S* )*make .*$"
        if path.suffix == ".md"
        else r"(?:run:|&&) make .*"
    )
    assert targets_in("\n".join(re.findall(code, text, re.M))) <= known


def inventory():
    data = (ROOT / "docs" / "inventories" / "torch.inv").read_bytes()
    return zlib.decompress(data.split(b"zlib.\n", 1)[1]).decode().splitlines()


@pytest.mark.parametrize("name", [line.split(" ")[0] for line in inventory()])
def test_names_of_the_inventory_are_there(name):
    assert operator.attrgetter(name.removeprefix("torch."))(torch) is not None
