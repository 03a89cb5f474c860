# SPDX-License-Identifier: Apache-2.0
# Three parts: "kernels" (libraries without Torch), "library" (headers, CMake package, and the libraries of one minor version
# of LibTorch), and "python" (Python modules for it). `cmake --install` installs the first two.
include(CMakePackageConfigHelpers)
set(package_folder share/cmake/torch_gumbel)

# Installs a library for LibTorch's minor version beside the others. Its paths are relative, so that the Python package can be
# moved; a build for C++ alone knows one LibTorch.
function(install_layer target)
  if(TORCH_GUMBEL_PYTHON OR TORCH_GUMBEL_PORTABLE)
    set(libtorch "$ORIGIN/../../../torch/lib")
  else()
    set(libtorch "${LIBTORCH_ROOT}/lib")
  endif()
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN;$ORIGIN/..;${libtorch}")
  install(TARGETS ${target} LIBRARY DESTINATION ${TORCH_GUMBEL_LAYER} COMPONENT library)
endfunction()
function(install_kernels target)
  if(NOT TORCH_GUMBEL_KERNELS)
    install(TARGETS ${target} LIBRARY DESTINATION lib COMPONENT kernels)
  endif()
endfunction()

install_layer(torch_gumbel)
install_kernels(torch_gumbel_kernels)
install(DIRECTORY include/torch_gumbel DESTINATION include COMPONENT library)

if(NOT TORCH_GUMBEL_PORTABLE)
  set(LIBTORCH_BUILT_WITH "${LIBTORCH_ROOT}")
endif()
configure_package_config_file(cmake/torch_gumbelConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfigVersion.cmake
  cmake/FindLibTorch.cmake
  DESTINATION ${package_folder} COMPONENT library)
