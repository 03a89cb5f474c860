# SPDX-License-Identifier: Apache-2.0
# Headers, libraries, and version of the LibTorch in one of LIBTORCH_HINTS (folders that hold include/ and lib/):
#
#   LIBTORCH_ROOT, LIBTORCH_INCLUDE, LIBTORCH_VERSION; LIBTORCH_INCLUDE is false if there is none
#   torch_gumbel::libtorch   target: headers, libtorch_cpu, libc10
#
# find_package(Torch) is not used: it stops where a CUDA build of PyTorch is installed without the
# CUDA toolkit, and it changes the caller's CUDA flags and architectures. Nothing is cached: another
# interpreter or prefix may bring another torch.
find_path(LIBTORCH_INCLUDE ATen/ATen.h PATHS ${LIBTORCH_HINTS}
  PATH_SUFFIXES include ../../include NO_DEFAULT_PATH NO_CACHE)
if(NOT LIBTORCH_INCLUDE)
  return()
endif()
get_filename_component(LIBTORCH_ROOT "${LIBTORCH_INCLUDE}" DIRECTORY)

foreach(libtorch_header torch/csrc/api/include/torch/version.h torch/headeronly/version.h)
  if(EXISTS "${LIBTORCH_INCLUDE}/${libtorch_header}")
    file(STRINGS "${LIBTORCH_INCLUDE}/${libtorch_header}" libtorch_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
    if(libtorch_lines)
      string(REGEX REPLACE "[^0-9]*([0-9]+)" "\\1." LIBTORCH_VERSION "${libtorch_lines}")
      string(REGEX REPLACE "[.;]+" "." LIBTORCH_VERSION "${LIBTORCH_VERSION}")
      string(REGEX REPLACE "[.]$" "" LIBTORCH_VERSION "${LIBTORCH_VERSION}")
    endif()
  endif()
endforeach()

# Links `target` with libraries of this LibTorch: link_libtorch(target INTERFACE|PRIVATE c10 ...)
function(link_libtorch target how)
  foreach(name IN LISTS ARGN)
    find_library(LIBTORCH_${name} ${name} PATHS "${LIBTORCH_ROOT}/lib"
      NO_DEFAULT_PATH NO_CACHE REQUIRED)
    target_link_libraries(${target} ${how} "${LIBTORCH_${name}}")
  endforeach()
endfunction()

add_library(torch_gumbel::libtorch INTERFACE IMPORTED)
target_include_directories(torch_gumbel::libtorch SYSTEM INTERFACE
  "${LIBTORCH_INCLUDE}" "${LIBTORCH_INCLUDE}/torch/csrc/api/include")
link_libtorch(torch_gumbel::libtorch INTERFACE torch_cpu c10)
