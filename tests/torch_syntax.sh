#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Whether every source that includes LibTorch compiles against the headers of the oldest supported
# version and of a middle one (.ci/torch_versions.txt): syntax and types only, no code. The headers
# stay in build/torch_headers. `make test-oldest` builds and tests with the oldest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
mapfile -t versions < .ci/torch_versions.txt
oldest=${versions[0]}
middle=${versions[$((${#versions[@]} / 2))]}

download() {
  local headers=$1 wanted=$2
  [ ! -e "$headers/complete" ] || return 0
  rm -rf "$headers" && mkdir -p "$headers"
  "$python" -m pip download --quiet --no-cache-dir --no-deps --only-binary=:all: --dest "$headers" "$wanted"
  "$python" - "$headers" << 'END'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [n for n in archive.namelist() if n.startswith("torch/include/")])
wheel.unlink()
END
  touch "$headers/complete"
}

# The texts that CMake gives to two sources, and headers of CUDA's runtime where there are any.
common="-std=c++20 -Wall -Wextra -Icsrc/include -Icsrc/ops/compat"
for name in VERSION LIBTORCH_VERSION CUDA_VERSION CUDA_ARCHITECTURES; do
  common+=" -DTORCH_GUMBEL_$name=\"\""
done
common+=" -isystem $("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')"
# The kernels have no Torch in them.
sources=$(find csrc -name '*.cpp' ! -path 'csrc/cpu/*kernels.cpp' ! -path 'csrc/cmake/*')
if nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null); then
  common+=" -isystem $(dirname "$(dirname "$(realpath "$nvcc")")")/include"
  sources+=" cuda/register.cpp"
else
  echo "torch_syntax: without cuda/register.cpp: no nvcc, whose headers it includes"
fi

check() {
  "${CXX:-g++}" -fsyntax-only $1 "$2" || { echo "torch_syntax: $2 does not compile with $3"; exit 1; }
}
export -f check

# check_all VERSION PRECOMPILED: with PyTorch's headers precompiled in a third of the time, but then
# a source that includes too little is not found.
check_all() {
  local headers=build/torch_headers/$1 flags
  download "$headers" "$1"
  flags="$common -isystem $headers/torch/include -isystem $headers/torch/include/torch/csrc/api/include"
  if [ "$2" = precompiled ]; then
    printf '#include <%s>\n' ATen/TensorOperators.h ATen/core/Tensor.h torch/library.h > "$headers/all.h"
    "${CXX:-g++}" $flags -x c++-header "$headers/all.h" -o "$headers/all.h.gch"
    flags+=" -include $headers/all.h"
  fi
  echo "$sources" | xargs -n 1 | xargs -P "${MAX_JOBS:-$(nproc)}" -I{} bash -c 'check "$@"' _ "$flags" {} "$1"
  echo "torch_syntax: $(echo "$sources" | wc -w) sources compile with $1"
}
check_all "$oldest" ""
check_all "$middle" precompiled
