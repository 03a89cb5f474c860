# SPDX-License-Identifier: Apache-2.0
# Tests on a GPU (label gpu). Without one they are skipped; with REQUIRE_CUDA=1 they fail.
add_library(word_checks OBJECT ${PROJECT_SOURCE_DIR}/tests/gpu/word_checks.cu)
target_compile_options(word_checks PRIVATE --fmad=false --expt-relaxed-constexpr)
add_executable(gpu_tests
  gpu_bits_test.cpp
  gpu_graph_test.cpp
  gpu_small_test.cpp
  gpu_streams_test.cpp
  gpu_words_test.cpp)
target_link_libraries(gpu_tests PRIVATE torch_gumbel torch_gumbel_cuda word_checks GTest::gtest_main CUDA::cudart)
target_include_directories(gpu_tests PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_include_directories(gpu_tests SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
link_libtorch(gpu_tests PRIVATE torch_cuda c10_cuda)
# The libraries that LibTorch's own depend on need not lie beside it.
target_link_options(gpu_tests PRIVATE LINKER:--no-as-needed LINKER:--allow-shlib-undefined)
tests_target(gpu_tests)
if(TORCH_GUMBEL_PORTABLE)  # it lies beside the folder of the package (.ci/build_gpu_bundle.py)
  set(package "$ORIGIN/python/torch_gumbel")
  set_target_properties(gpu_tests PROPERTIES BUILD_WITH_INSTALL_RPATH ON
    INSTALL_RPATH "${package}/${TORCH_GUMBEL_LAYER};${package}/lib")
endif()
gtest_discover_tests(gpu_tests DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120
  PROPERTIES LABELS gpu TIMEOUT 600 RUN_SERIAL ON)
