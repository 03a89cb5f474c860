# SPDX-License-Identifier: Apache-2.0
# torch_gumbel._C for the Python that was found and for every interpreter in TORCH_GUMBEL_PYTHONS. Its headers and the
# suffix of its modules are all that is needed of an interpreter.
function(python_module name interpreter)
  execute_process(
    COMMAND ${interpreter} -c
      "import sysconfig as s; print(s.get_paths()['include'], s.get_config_var('EXT_SUFFIX'), sep=';', end='')"
    OUTPUT_VARIABLE answer COMMAND_ERROR_IS_FATAL ANY)
  list(GET answer 0 include)
  list(GET answer 1 suffix)
  if(NOT EXISTS ${include}/Python.h)
    message(FATAL_ERROR "torch_gumbel: wanted Python's headers in ${include}, found none (Debian/Ubuntu: apt-get install "
                        "python3-dev); without the Python module: -DTORCH_GUMBEL_PYTHON=OFF")
  endif()
  add_library(${name} MODULE python_module.cpp)
  set_target_properties(${name} PROPERTIES PREFIX "" OUTPUT_NAME _C SUFFIX ${suffix} INSTALL_RPATH "$ORIGIN")
  target_include_directories(${name} SYSTEM PRIVATE ${include})
  target_compile_definitions(${name} PRIVATE TORCH_EXTENSION_NAME=_C)
  target_link_libraries(${name} PRIVATE torch_gumbel)
  link_libtorch(${name} PRIVATE torch_python)
  set_property(GLOBAL APPEND PROPERTY TORCH_GUMBEL_MODULES ${name})
  install(TARGETS ${name} LIBRARY DESTINATION ${TORCH_GUMBEL_LAYER} COMPONENT python EXCLUDE_FROM_ALL)
endfunction()

python_module(_C ${Python_EXECUTABLE})
foreach(interpreter IN LISTS TORCH_GUMBEL_PYTHONS)
  string(MAKE_C_IDENTIFIER "_C_${interpreter}" name)
  python_module(${name} ${interpreter})
endforeach()
