# SPDX-License-Identifier: Apache-2.0
# Installs the built library into a folder outside the source, builds a project there against what is
# installed, runs it, and looks at what it links:
#   cmake -DBUILD=... -DPROJECT=... -DPROGRAM=... [-DOPTIONS=...] -P consumer.cmake
string(RANDOM LENGTH 8 name)
set(root "$ENV{TMPDIR}")
if(root STREQUAL "")
  set(root /tmp)
endif()
set(root "${root}/torch_gumbel ${name}")  # with a space, as paths of users may have

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output
    WORKING_DIRECTORY "${root}")
  message("${output}")
  if(NOT result EQUAL 0)
    file(REMOVE_RECURSE "${root}")
    message(FATAL_ERROR "failed (${result}): ${ARGV}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(MAKE_DIRECTORY "${root}")
run(${CMAKE_COMMAND} --install "${BUILD}" --prefix "${root}/prefix")
file(COPY "${PROJECT}/" DESTINATION "${root}/source")
run(${CMAKE_COMMAND} -S source -B build -GNinja -DCMAKE_BUILD_TYPE=Release
  "-DCMAKE_PREFIX_PATH=${root}/prefix" ${OPTIONS})
run(${CMAKE_COMMAND} --build build)
run("${root}/build/${PROGRAM}")

run(ldd "build/${PROGRAM}")
foreach(wanted libtorch_gumbel.so libtorch_gumbel_kernels.so libtorch.so libtorch_cpu.so)
  if(NOT output MATCHES "${wanted} => /")
    message(SEND_ERROR "${PROGRAM} does not find ${wanted}")
  endif()
endforeach()
if(output MATCHES "libpython|libtorch_python|not found")
  message(SEND_ERROR "${PROGRAM} must link neither Python nor anything that is missing")
endif()
if(NOT output MATCHES "${root}/prefix/lib/torch-[0-9.]+/libtorch_gumbel.so")
  message(SEND_ERROR "${PROGRAM} runs another libtorch_gumbel than the installed one")
endif()
file(REMOVE_RECURSE "${root}")
