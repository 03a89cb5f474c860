# SPDX-License-Identifier: Apache-2.0
# TORCH_GUMBEL_OPENMP: the compiler's option for OpenMP, if this LibTorch uses OpenMP and its runtime
# has what this compiler's code calls (that of g++ runs on any; that of clang not on g++'s runtime,
# which PyTorch's wheels bring). Nothing is cached: see FindLibTorch.cmake.
include(CheckCXXSourceCompiles)
set(TORCH_GUMBEL_OPENMP "")
file(STRINGS "${LIBTORCH_INCLUDE}/ATen/Config.h" libtorch_openmp REGEX "define AT_PARALLEL_OPENMP 1")
if(libtorch_openmp)
  file(GLOB openmp_runtime "${LIBTORCH_ROOT}/lib/lib*omp*.so*" "${LIBTORCH_ROOT}/../torch.libs/lib*omp*.so*")
  set(CMAKE_REQUIRED_DEFINITIONS -fopenmp)
  set(CMAKE_REQUIRED_LIBRARIES ${openmp_runtime})
  if(NOT openmp_runtime)
    set(CMAKE_REQUIRED_LINK_OPTIONS -fopenmp)
  endif()
  unset(TORCH_GUMBEL_OPENMP_LINKS CACHE)
  check_cxx_source_compiles("
    #ifndef _OPENMP
    #error no OpenMP
    #endif
    int main() {
      int threads = 0;
    #pragma omp parallel reduction(+ : threads)
      threads += 1;
      return threads;
    }" TORCH_GUMBEL_OPENMP_LINKS)
  unset(CMAKE_REQUIRED_DEFINITIONS)
  unset(CMAKE_REQUIRED_LIBRARIES)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  if(TORCH_GUMBEL_OPENMP_LINKS)
    set(TORCH_GUMBEL_OPENMP -fopenmp)
  else()
    message(WARNING "torch_gumbel: the OpenMP runtime of LibTorch does not serve ${CMAKE_CXX_COMPILER}; "
                    "the CPU kernels will use one thread. With g++ they use all.")
  endif()
endif()
