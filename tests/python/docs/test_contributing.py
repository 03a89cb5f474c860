# SPDX-License-Identifier: Apache-2.0
"""The steps of CONTRIBUTING.md, "Adding an operation", name the files that its examples lie in."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILE = r"`([\w./]+/[\w.]+\.\w+|CHANGELOG\.md)`"
# Where a formula goes that the second example takes from others.
SHARED = {"csrc/math/softmax.h"}


def section(heading):
    return re.search(rf"^### {heading}.*?: (\d+) files\n(.*?)^##", GUIDE, re.DOTALL | re.MULTILINE)


def files_of(heading):
    """The files that the numbered steps name."""
    steps = section(heading)[2].split("\n1. ", 1)[1]
    return set(re.findall(FILE, steps))


COMPOSITE = files_of("A composite op")
FUSED = files_of("A fused op")


def mentioning(pattern, *folders):
    for folder in folders:
        # The library's headers are installed in `python`.
        wanted = {".py"} if folder == "python" else {".cpp", ".h"}
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in wanted and re.search(pattern, path.read_text(encoding="utf-8")):
                yield str(path.relative_to(ROOT))


@pytest.mark.parametrize("file", sorted(COMPOSITE | FUSED))
def test_every_file_that_the_steps_name_is_there_with_the_example(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    if file in COMPOSITE:
        assert "gumbel_topk" in text.lower() or "gumbeltopk" in text.lower()
    elif file not in SHARED:
        assert "hard_soft" in text or "HardSoft" in text


def test_the_counts_are_those_of_the_steps():
    assert len(COMPOSITE) == int(section("A composite op")[1]) <= 11
    draws = "csrc/ops/library_draws.cpp"  # one of the two files of schemas
    fused = FUSED | COMPOSITE - {"csrc/include/torch_gumbel/options.h", draws}
    assert len(fused) == int(section("A fused op")[1]) <= 30


def test_the_examples_lie_in_no_other_source_of_the_library():
    """Families of CUDA kernels and the rows of several ranks are beyond the steps."""
    assert set(mentioning(r'gumbel_topk[(",.]', "csrc", "python")) <= COMPOSITE
    beyond = {"python/torch_gumbel/_vocab_parallel.py"}
    found = set(mentioning("hard_soft|HardSoft", "csrc/ops", "csrc/math", "python"))
    assert found <= FUSED | COMPOSITE | beyond
