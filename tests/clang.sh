#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the Torch-free CPU kernels with clang for every instruction set, a warning being an error,
# and compares the bits of every op with those of the installed library, which g++ compiled.
#   CLANG=clang++-19 tests/clang.sh      (Debian/Ubuntu: apt-get install clang libgtest-dev)
set -euo pipefail
cd "$(dirname "$0")/.."
clang=${CLANG:-clang++}
library=python/torch_gumbel/lib
out=build/clang/$clang
command -v "$clang" > /dev/null || { echo "clang: $clang is missing (see the head of $0)"; exit 1; }
mkdir -p "$out"

flags="-std=c++20 -O3 -Icsrc -Itests/cpp -Wall -Wextra -Werror"
exact="$flags -ffp-contract=off -fno-math-errno -fno-trapping-math"
sets=generic
if [ "$(uname -m)" = x86_64 ]; then
  sets="generic avx2 avx512"
  flags+=" -DTORCH_GUMBEL_X86"
fi
{
  for path in csrc/cpu/*kernels.cpp; do
    source=$(basename "$path" .cpp)
    kernels="$exact -c $path"
    echo "$kernels -DTG_ISA=generic -o $out/${source}_generic.o"
    if [ "$(uname -m)" = x86_64 ]; then
      echo "$kernels -DTG_ISA=avx2 -mavx2 -mfma -mf16c -o $out/${source}_avx2.o"
      echo "$kernels -DTG_ISA=avx512 -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c" \
        "-mprefer-vector-width=512 -o $out/${source}_avx512.o"
    fi
  done
  for path in csrc/cpu/*plan.cpp csrc/cpu/isa_dispatch.cpp tests/arm64/digest.cpp tests/cpp/{problem,elements}.cpp; do
    echo "$flags -ffp-contract=off -c $path -o $out/$(basename "$path" .cpp).o"
  done
} | xargs -P "${MAX_JOBS:-$(nproc)}" -I{} sh -c "$clang {}"

problem="$out/digest.o $out/problem.o $out/elements.o"
all=$(for name in $sets; do ls "$out"/*kernels_$name.o; done; ls "$out"/*plan.o "$out/isa_dispatch.o")
"$clang" $problem $all -lgtest -pthread -o "$out/digest_here"
"$clang" $problem -L$library -ltorch_gumbel_kernels -Wl,-rpath,"$PWD/$library" -lgtest -pthread \
  -o "$out/digest_library"
status=0
for name in $sets; do
  if ! here=$(TORCH_GUMBEL_CPU=$name "$out/digest_here"); then
    echo "$name: this processor does not run it"
    continue
  fi
  there=$(TORCH_GUMBEL_CPU=$name "$out/digest_library")
  echo "$clang: $here   library: $there"
  [ "$here" = "$there" ] || status=1
done
[ $status = 0 ] || echo "clang: the bits differ"
exit $status
