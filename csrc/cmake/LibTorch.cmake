# SPDX-License-Identifier: Apache-2.0
# The target `libtorch`: headers and libraries of the LibTorch in CMAKE_PREFIX_PATH, or of the Python package.
#
# find_package(Torch) is not used: it stops where a CUDA build of PyTorch is installed without the
# CUDA toolkit, and it changes the caller's CUDA flags and architectures.
find_package(Python 3.10 COMPONENTS Interpreter OPTIONAL_COMPONENTS Development.Module)
if(TORCH_GUMBEL_PYTHON AND NOT Python_Development.Module_FOUND)
  message(FATAL_ERROR "torch_gumbel: Python's headers are missing (Debian/Ubuntu: apt-get install "
                      "python3-dev); without the Python module: -DTORCH_GUMBEL_PYTHON=OFF")
endif()

# Nothing is cached: another interpreter may bring another torch.
if(CMAKE_PREFIX_PATH)
  find_path(LIBTORCH_INCLUDE ATen/ATen.h PATHS ${CMAKE_PREFIX_PATH}
    PATH_SUFFIXES include ../../include NO_DEFAULT_PATH NO_CACHE)
endif()
if(NOT LIBTORCH_INCLUDE AND Python_FOUND)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
      "import os, importlib.util as u; print(os.path.dirname(u.find_spec('torch').origin))"
    OUTPUT_VARIABLE torch_folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_path(LIBTORCH_INCLUDE ATen/ATen.h PATHS "${torch_folder}/include" NO_DEFAULT_PATH NO_CACHE)
endif()
if(NOT LIBTORCH_INCLUDE)
  message(FATAL_ERROR "torch_gumbel needs LibTorch: install PyTorch (pip install torch), or set "
                      "CMAKE_PREFIX_PATH")
endif()
get_filename_component(LIBTORCH_ROOT "${LIBTORCH_INCLUDE}" DIRECTORY)

foreach(header torch/csrc/api/include/torch/version.h torch/headeronly/version.h)
  if(EXISTS "${LIBTORCH_INCLUDE}/${header}")
    file(STRINGS "${LIBTORCH_INCLUDE}/${header}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
    if(lines)
      string(REGEX REPLACE "[^0-9]*([0-9]+)" "\\1." LIBTORCH_VERSION "${lines}")
      string(REGEX REPLACE "[.;]+" "." LIBTORCH_VERSION "${LIBTORCH_VERSION}")
      string(REGEX REPLACE "[.]$" "" LIBTORCH_VERSION "${LIBTORCH_VERSION}")
    endif()
  endif()
endforeach()
if(LIBTORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "torch_gumbel needs LibTorch 2.11 or later, found ${LIBTORCH_VERSION} in ${LIBTORCH_ROOT}")
endif()

function(libtorch_library target)
  find_library(LIBTORCH_${target} ${target} PATHS "${LIBTORCH_ROOT}/lib"
    NO_DEFAULT_PATH NO_CACHE REQUIRED)
  target_link_libraries(libtorch INTERFACE "${LIBTORCH_${target}}")
endfunction()

add_library(libtorch INTERFACE)
target_include_directories(libtorch SYSTEM INTERFACE
  "${LIBTORCH_INCLUDE}" "${LIBTORCH_INCLUDE}/torch/csrc/api/include")
libtorch_library(torch_cpu)
libtorch_library(c10)
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
