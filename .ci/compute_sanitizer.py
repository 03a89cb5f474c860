# SPDX-License-Identifier: Apache-2.0
"""Stands in for compute-sanitizer in a rehearsal: the options that tests/gpu/run.py gives it, and
the program as it is. Of its tools, synccheck never ends, and initcheck finds an error.
"""

import argparse
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--tool", choices=("memcheck", "racecheck", "synccheck", "initcheck"))
parser.add_argument("--error-exitcode", type=int)
parser.add_argument("--kernel-regex")
parser.add_argument("program", nargs=argparse.REMAINDER)
options = parser.parse_args()
if not (options.kernel_regex or "").startswith("kns="):
    sys.exit("compute-sanitizer: wanted --kernel-regex kns=...")
code = subprocess.run(options.program).returncode
while options.tool == "synccheck":
    time.sleep(1)
found = options.tool == "initcheck"
print(f"========= ERROR SUMMARY: {int(found)} errors")
sys.exit(options.error_exitcode if found else code)
