# SPDX-License-Identifier: Apache-2.0
# Two parts: "library" (headers, libtorch_gumbel, CMake package) is what `cmake --install` installs;
# "python" adds what the Python package needs beside them, and is installed by setup.py.
include(CMakePackageConfigHelpers)
set(package_folder share/cmake/torch_gumbel)

# Relative, so that the Python package can be moved; a build for C++ alone knows one LibTorch.
if(TORCH_GUMBEL_PYTHON)
  set_target_properties(torch_gumbel PROPERTIES INSTALL_RPATH "$ORIGIN/../../torch/lib")
else()
  set_target_properties(torch_gumbel PROPERTIES INSTALL_RPATH "${LIBTORCH_ROOT}/lib")
endif()
# torch_gumbelConfig.cmake wraps it as torch_gumbel::torch_gumbel.
set_target_properties(torch_gumbel PROPERTIES EXPORT_NAME library)
install(TARGETS torch_gumbel EXPORT torch_gumbelTargets LIBRARY DESTINATION lib COMPONENT library)
install(DIRECTORY include/torch_gumbel DESTINATION include COMPONENT library)

configure_package_config_file(cmake/torch_gumbelConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/torch_gumbelConfigVersion.cmake
  cmake/FindLibTorch.cmake
  DESTINATION ${package_folder} COMPONENT library)
install(EXPORT torch_gumbelTargets NAMESPACE torch_gumbel::
  DESTINATION ${package_folder} COMPONENT library)

# Read before the library is loaded, to say in words that another torch is running.
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/built_for_torch "${LIBTORCH_VERSION}\n")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/built_for_torch
  DESTINATION lib COMPONENT python EXCLUDE_FROM_ALL)
if(TORCH_GUMBEL_PYTHON)
  set_target_properties(_C PROPERTIES INSTALL_RPATH "$ORIGIN/lib")
  install(TARGETS _C LIBRARY DESTINATION . COMPONENT python EXCLUDE_FROM_ALL)
endif()
