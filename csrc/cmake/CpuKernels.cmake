# SPDX-License-Identifier: Apache-2.0
# libtorch_gumbel_kernels: the CPU kernels, and what chooses among them. Torch-free.
add_library(torch_gumbel_kernels SHARED cpu/isa_dispatch.cpp cpu/log_prob_plan.cpp cpu/plan.cpp
  cpu/subset_plan.cpp)
target_compile_options(torch_gumbel_kernels PRIVATE -Wall -Wextra)

# One build of the CPU kernels per instruction set. Rounding is part of the contract: nothing is contracted or reordered.
set(KERNEL_FLAGS -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # The lowered vector types warn about an ABI that no function here exposes; GCC's own intrinsics read undefined lanes.
  list(APPEND KERNEL_FLAGS -fno-tree-reassoc -Wno-psabi -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
set(FLAGS_generic "")
set(FLAGS_avx2 -mavx2 -mfma -mf16c)
set(FLAGS_avx512 -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c -mprefer-vector-width=512)
set(INSTRUCTION_SETS generic)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND INSTRUCTION_SETS avx2 avx512)
  set_source_files_properties(cpu/isa_dispatch.cpp PROPERTIES COMPILE_DEFINITIONS TORCH_GUMBEL_X86)
endif()
file(GLOB CPU_KERNELS CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cpu/*kernels.cpp)
foreach(isa IN LISTS INSTRUCTION_SETS)
  add_library(torch_gumbel_cpu_${isa} OBJECT ${CPU_KERNELS})
  target_compile_definitions(torch_gumbel_cpu_${isa} PRIVATE TG_ISA=${isa})
  target_compile_options(torch_gumbel_cpu_${isa} PRIVATE -Wall -Wextra ${KERNEL_FLAGS} ${FLAGS_${isa}})
  target_link_libraries(torch_gumbel_kernels PRIVATE torch_gumbel_cpu_${isa})
endforeach()
