# SPDX-License-Identifier: Apache-2.0
# GoogleTest: installed, or its source in GOOGLETEST_SOURCE_DIR (a variable of CMake or of the
# environment; Debian's package is found by itself), or fetched.
find_package(GTest CONFIG QUIET)
if(NOT TARGET GTest::gtest_main)
  set(INSTALL_GTEST OFF)
  set(BUILD_GMOCK OFF)
  find_path(GOOGLETEST_SOURCE_DIR googletest/CMakeLists.txt
    HINTS ENV GOOGLETEST_SOURCE_DIR PATHS /usr/src/googletest NO_DEFAULT_PATH)
  if(GOOGLETEST_SOURCE_DIR)
    add_subdirectory(${GOOGLETEST_SOURCE_DIR} ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
  else()
    message(STATUS "torch_gumbel: GoogleTest is not installed, fetching it")
    include(FetchContent)
    FetchContent_Declare(googletest
      GIT_REPOSITORY https://github.com/google/googletest.git GIT_TAG v1.17.0 GIT_SHALLOW ON)
    FetchContent_MakeAvailable(googletest)
  endif()
endif()
