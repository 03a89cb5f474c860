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
tests="argmax_test spatial_test convert_test elements extended_positions extended_words_test
  gumbel_test kernels_test layouts_test log_prob_test philox_test plan_stores_test plan_test problem reference
  rows_test sanitizer_test softmax_test special_rows_test subset_test tiles_test words_test"

# build COMPILER FOLDER SOURCES...: objects of the kernels, of GoogleTest, and of tests/cpp/SOURCES
build() {
  local compiler=$1 folder=$out/$2
  shift 2
  mkdir -p "$folder"
  {
    for path in csrc/cpu/*kernels.cpp; do
      echo "$exact -DTG_ISA=generic -c $path -o $folder/$(basename "$path" .cpp).o"
    done
    for path in csrc/cpu/*plan.cpp csrc/cpu/isa_dispatch.cpp; do
      echo "-c $path -o $folder/$(basename "$path" .cpp).o"
    done
    echo "-ffp-contract=off -c tests/arm64/digest.cpp -o $folder/digest.o"
    echo "-I$gtest -c $gtest/src/gtest-all.cc -o $folder/gtest.o"
    for source in "$@"; do
      echo "-Wno-unused-function $exact -DTG_PROBE -c tests/cpp/$source.cpp -o $folder/$source.o"
    done
  } | sed 's/-DTG_PROBE \(-c tests.cpp.isa_probe.cpp\)/-DTG_ISA=probe_generic \1/' |
    xargs -P "$(nproc)" -I{} sh -c "$compiler $common {}"
  $compiler -static "$folder"/{digest,problem,elements,isa_dispatch,gtest}.o "$folder"/*kernels.o "$folder"/*plan.o \
    -o "$folder/digest" -pthread
}

build aarch64-linux-gnu-g++ arm64 isa_probe isa_probes $tests
build "c++ -mfma" here problem elements
aarch64-linux-gnu-g++ -static $(ls "$out"/arm64/*.o | grep -v digest) \
  -x c++ - -o "$out/arm64/kernel_tests" -pthread -I"$gtest/include" << 'END'
#include <gtest/gtest.h>
int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
END
qemu-aarch64 "$out/arm64/kernel_tests" --gtest_brief=1 \
  --gtest_filter="${1:-FillWords.*:FillRuns.*:*EveryRowLength*:*EveryTemperature*:*SpecialRows*:*Spatial*:Plan.*:Subset.*:LogProb.*}"
there=$(qemu-aarch64 "$out/arm64/digest") here=$("$out/here/digest")
echo "arm64: $there"; echo "here:  $here"
test "$there" = "$here" || { echo "arm64: the bits differ"; exit 1; }
