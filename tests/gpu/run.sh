#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a GPU, in this order: GoogleTest (label gpu), pytest (marker cuda), the tools
# of compute-sanitizer where it is installed, and the benchmark. Without a GPU it fails at once, for
# REQUIRE_CUDA=1 makes a skip a failure. `make gpu` builds first and then runs this file.
#
# From the environment: PYTHON, BUILD (CMake's folder), OUT (for the benchmark's results), QUICK=1
# (a smaller benchmark), SANITIZER=0 (not the tools).
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3} build=${BUILD:-build/cmake} out=${OUT:-build/gpu}
tests=$build/tests/cpp/gpu_tests
export REQUIRE_CUDA=1
mkdir -p "$out"
summary=()
failed=0

# step NAME COMMAND...: runs it, keeps its output, and goes on whatever comes of it
step() {
  local name=$1 status
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$out/$name.log"
  status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] || failed=1
  summary+=("$name: $([ "$status" -eq 0 ] && echo passed || echo "FAILED ($status)")")
}

test -x "$tests" || { echo "gpu: no $tests: this build has no CUDA (is nvcc in PATH?)"; exit 1; }
step gtest ctest --test-dir "$build" --label-regex '^gpu$' --no-tests=error --output-on-failure
step pytest "$python" -m pytest --color=no -m cuda tests/python/cuda/test_cuda.py

# Sanitizers slow kernels down by tens: small cases of every kernel, and no memory kept in a pool
# that would hide an access outside a tensor. Graphs need that pool.
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null)
if [ "${SANITIZER:-1}" = 0 ]; then
  summary+=("compute-sanitizer: not asked for")
elif [ -z "$sanitizer" ]; then
  summary+=("compute-sanitizer: not installed")
else
  for tool in memcheck racecheck initcheck synccheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 step "$tool" "$sanitizer" --tool "$tool" --error-exitcode 9 \
      "$tests" --gtest_filter='GpuSmall.*'
  done
fi

step benchmark "$python" benchmarks/gpu.py --out "$out" ${QUICK:+--quick}
echo
printf '%s\n' "${summary[@]}"
exit "$failed"
