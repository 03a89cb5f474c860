# SPDX-License-Identifier: Apache-2.0
# The LibTorch to build against: TORCH_GUMBEL_LIBTORCH, one in CMAKE_PREFIX_PATH, or that of the Python package.
find_package(Python 3.10 COMPONENTS Interpreter)
if(TORCH_GUMBEL_PYTHON AND NOT Python_FOUND)
  message(FATAL_ERROR "torch_gumbel: wanted Python 3.10 or later, found none; without the Python module: -DTORCH_GUMBEL_PYTHON=OFF")
endif()

set(LIBTORCH_HINTS ${TORCH_GUMBEL_LIBTORCH} ${CMAKE_PREFIX_PATH})
if(Python_FOUND AND NOT TORCH_GUMBEL_LIBTORCH)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
      "import os, importlib.util as u; print(os.path.dirname(u.find_spec('torch').origin))"
    OUTPUT_VARIABLE torch_folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND LIBTORCH_HINTS ${torch_folder})
endif()
include(FindLibTorch)
if(NOT LIBTORCH_INCLUDE)
  message(FATAL_ERROR "torch_gumbel needs LibTorch: install PyTorch (pip install torch), or set "
                      "CMAKE_PREFIX_PATH")
endif()
if(LIBTORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "torch_gumbel needs LibTorch 2.11 or later, found ${LIBTORCH_VERSION} in ${LIBTORCH_ROOT}")
endif()

if(TORCH_GUMBEL_WITH_CUDA)
  find_library(LIBTORCH_CUDA_BUILD torch_cuda PATHS "${LIBTORCH_ROOT}/lib" NO_DEFAULT_PATH NO_CACHE)
  if(NOT LIBTORCH_CUDA_BUILD)
    if(NOT TORCH_GUMBEL_CUDA STREQUAL "auto")
      message(FATAL_ERROR "torch_gumbel: CUDA kernels were asked for, but the LibTorch in ${LIBTORCH_ROOT} has no CUDA")
    endif()
    message(STATUS "torch_gumbel: this LibTorch has no CUDA, so neither has this build")
    set(TORCH_GUMBEL_WITH_CUDA OFF)
    set(TORCH_GUMBEL_CUDA_ARCHITECTURES "")
    set(TORCH_GUMBEL_CUDA_SUMMARY "CPU only")
  endif()
endif()
