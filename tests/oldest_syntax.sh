#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Whether every source that includes LibTorch compiles against the oldest supported one
# (tests/oldest.txt), in about two minutes on two cores: syntax and types only, no code, against the
# headers of the wheel. They stay in build/oldest_headers until tests/oldest.txt names another
# version. `make test-oldest` builds and tests there.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
wanted=$(cat tests/oldest.txt)
headers=build/oldest_headers

if [ "$(cat $headers/version 2>/dev/null)" != "$wanted" ]; then
  rm -rf $headers && mkdir -p $headers
  "$python" -m pip download --quiet --no-cache-dir --no-deps --only-binary=:all: --dest $headers "$wanted"
  "$python" - $headers << 'END'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [n for n in archive.namelist() if n.startswith("torch/include/")])
wheel.unlink()
END
  echo "$wanted" > $headers/version
fi

# The texts that CMake gives to build_info.cpp, and headers of CUDA's runtime where there are any.
flags="-std=c++20 -fopenmp -Wall -Wextra -Icsrc/include -Icsrc/ops/compat"
for name in VERSION LIBTORCH_VERSION CUDA_VERSION CUDA_ARCHITECTURES; do
  flags+=" -DTORCH_GUMBEL_$name=\"\""
done
torch=$headers/torch/include
flags+=" -isystem $torch -isystem $torch/torch/csrc/api/include"
flags+=" -isystem $("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')"
sources=$(find csrc -name '*.cpp' ! -path csrc/cpu/kernels.cpp)  # that one has no Torch in it
if nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null); then
  flags+=" -isystem $(dirname "$(dirname "$(realpath "$nvcc")")")/include"
  sources+=" cuda/register.cpp"
else
  echo "oldest_syntax: without cuda/register.cpp: no nvcc, whose headers it includes"
fi

check() {
  "${CXX:-g++}" -fsyntax-only $1 "$2" || { echo "oldest_syntax: $2 does not compile with $3"; exit 1; }
}
export -f check
echo "$sources" | xargs -n 1 | xargs -P "${MAX_JOBS:-$(nproc)}" -I{} bash -c 'check "$@"' _ "$flags" {} "$wanted"
echo "oldest_syntax: $(echo "$sources" | wc -w) sources compile with $wanted"
