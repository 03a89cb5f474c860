// SPDX-License-Identifier: Apache-2.0
// Names of this program's kernels, and its shared variables, from its symbol table.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace cuda_model {

/// "void space::kernel<float>(space::KernelParams)"; empty if nothing begins at the address.
const std::string& function_at(const void* address);

/// The same without return type, namespaces, and parameters: "kernel<float>".
std::string short_name(const std::string& function);

/// Short names of the functions that a namespace begins and whose own name holds `part`, once each.
std::vector<std::string> functions_with(const std::string& scope, const std::string& part);

struct Shared {
  std::string name;      // "kernel<float>::scratch"
  std::string function;  // that it is local to; empty for a dynamic array
  char* begin;
  size_t size;
};

/// All shared variables, in the order of their addresses.
const std::vector<Shared>& shared_variables();

/// "file.cuh:12" of an instruction, where that is known.
std::string place_of(const void* instruction);

}  // namespace cuda_model
