# SPDX-License-Identifier: Apache-2.0
"""Line coverage of the kernels by a run of model_tests_coverage: a percentage, and lines left.

Usage: coverage.py BUILD_DIRECTORY [LEAST_PERCENTAGE]
"""

import gzip
import json
import pathlib
import subprocess
import sys
import tempfile


def counts_of(data):
    """(file, line) -> how often it ran, from one .gcda file."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["gcov", "--json-format", str(data)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (report,) = pathlib.Path(folder).glob("*.gcov.json.gz")
        content = json.loads(gzip.decompress(report.read_bytes()))
    for file in content["files"]:
        for line in file["lines"]:
            yield (pathlib.Path(file["file"]).name, line["line_number"]), line["count"]


def ranges(lines):
    """[1, 2, 3, 7] -> "1-3, 7"."""
    spans = []
    for line in lines:
        if spans and spans[-1][1] == line - 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def main(build, least=0.0):
    (data,) = pathlib.Path(build).resolve().rglob("model_device_coverage.dir/**/kernels.cu.gcda")
    ran = {}
    for place, count in counts_of(data):
        if place[0].endswith(".cuh"):
            ran[place] = ran.get(place, 0) + count
    for file in sorted({file for file, _ in ran}):
        lines = sorted(line for name, line in ran if name == file)
        left = [line for line in lines if ran[file, line] == 0]
        print(f"{file:20} {len(lines) - len(left):4} of {len(lines):4}", end="")
        print(f", not {ranges(left)}" if left else "")
    share = 100 * sum(count > 0 for count in ran.values()) / len(ran)
    print(f"cuda: {share:.1f} % of {len(ran)} lines")
    return share >= float(least)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
