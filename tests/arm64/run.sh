#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the Torch-free CPU kernels and their tests for arm64, runs them under qemu-user, and
# compares the bits of every op with those of this machine. Debian/Ubuntu:
#   apt-get install g++-aarch64-linux-gnu qemu-user googletest
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build/arm64
gtest=${GTEST_SOURCE:-/usr/src/googletest/googletest}
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$tool" > /dev/null || { echo "arm64: $tool is missing (see the head of $0)"; exit 1; }
done
test -d "$gtest" || { echo "arm64: no GoogleTest source in $gtest; set GTEST_SOURCE"; exit 1; }

exact="-ffp-contract=off -fno-math-errno -fno-trapping-math -fno-tree-reassoc -Wno-psabi"
common="-std=c++20 -O3 -Icsrc -Itests/cpp -I$gtest/include"
tests="choose_test columns_test convert_test elements extended_words_test gumbel_test kernels_test
  layouts_test philox_test problem reference rows_test sanitizer_test softmax_test special_rows_test
  tiles_test words_test"

# build COMPILER FOLDER: objects of kernels, tests, and digest, all but the kernels in parallel
build() {
  mkdir -p "$out/$2"
  {
    echo "$exact -DTG_ISA=generic -c csrc/cpu/kernels.cpp -o $out/$2/kernels.o"
    echo "$exact -DTG_ISA=probe_generic -c tests/cpp/isa_probe.cpp -o $out/$2/isa_probe.o"
    echo "-c csrc/cpu/select.cpp -o $out/$2/select.o"
    echo "-c tests/cpp/isa_probes.cpp -o $out/$2/isa_probes.o"
    echo "-ffp-contract=off -c tests/arm64/digest.cpp -o $out/$2/digest.o"
    echo "-I$gtest -c $gtest/src/gtest-all.cc -o $out/$2/gtest.o"
    echo "-I$gtest -c $gtest/src/gtest_main.cc -o $out/$2/gtest_main.o"
    for test in $tests; do
      echo "-Wno-unused-function -Wno-psabi -ffp-contract=off -c tests/cpp/$test.cpp -o $out/$2/$test.o"
    done
  } | xargs -P "$(nproc)" -I{} sh -c "$1 $common {}"
  local kernels="$out/$2/kernels.o $out/$2/select.o $out/$2/isa_probe.o $out/$2/isa_probes.o"
  $1 -static "$out/$2/digest.o" "$out/$2/problem.o" "$out/$2/elements.o" $kernels \
    "$out/$2/gtest.o" -o "$out/$2/digest" -pthread
  $1 -static $(printf "$out/$2/%s.o " $tests) $kernels "$out/$2/gtest.o" \
    "$out/$2/gtest_main.o" -o "$out/$2/kernel_tests" -pthread
}

build aarch64-linux-gnu-g++ arm64
build "c++ -mfma" here
qemu-aarch64 "$out/arm64/kernel_tests" --gtest_brief=1 \
  --gtest_filter="${1:-FillWords.*:FillRuns.*:*EveryRowLength*:*EveryTemperature*:*SpecialRows*:*Columns*}"
there=$(qemu-aarch64 "$out/arm64/digest") here=$("$out/here/digest")
echo "arm64: $there"; echo "here:  $here"
test "$there" = "$here" || { echo "arm64: the bits differ"; exit 1; }
