// SPDX-License-Identifier: Apache-2.0
#include "symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <stdexcept>

#ifdef CUDA_MODEL_CHECKED
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_model {
namespace {

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  const std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

/// Where this program lies in memory: its code, and its thread_local variables.
struct Base {
  char* code;
  char* variables;
};

Base base_of_program() {
  Base base = {};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* to) {
        *static_cast<Base*>(to) = {reinterpret_cast<char*>(info->dlpi_addr),
                                   static_cast<char*>(info->dlpi_tls_data)};
        return 1;  // the first is the program
      },
      &base);
  return base;
}

class Symbols {
 public:
  Symbols() {
    std::ifstream file("/proc/self/exe", std::ios::binary);
    image_.assign(std::istreambuf_iterator<char>(file), {});
    const auto* header = at<Elf64_Ehdr>(0);
    const auto* sections = at<Elf64_Shdr>(header->e_shoff);
    const auto* end = sections + header->e_shnum;
    const auto* table = std::find_if(
        sections, end, [](const Elf64_Shdr& section) { return section.sh_type == SHT_SYMTAB; });
    if (table == end) throw std::runtime_error("the model needs this program's symbol table");
    const auto* symbols = at<Elf64_Sym>(table->sh_offset);
    const char* names = at<char>(sections[table->sh_link].sh_offset);
    for (size_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); ++i)
      add(symbols[i], names + symbols[i].st_name);
    std::sort(shared.begin(), shared.end(), [](auto& a, auto& b) { return a.begin < b.begin; });
  }

  std::map<const void*, const char*> functions;
  std::vector<Shared> shared;

 private:
  template <typename T>
  const T* at(size_t offset) const {
    return reinterpret_cast<const T*>(image_.data() + offset);
  }

  void add(const Elf64_Sym& symbol, const char* name) {
    if (symbol.st_shndx == SHN_UNDEF) return;
    if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC) functions[base_.code + symbol.st_value] = name;
    if (ELF64_ST_TYPE(symbol.st_info) != STT_TLS) return;
    const std::string full = demangled(name);
    const size_t scope = full.rfind("::");
    const bool local = scope != std::string::npos && full.find(')') < scope;
    const std::string function = local ? full.substr(0, scope) : "";
    const std::string variable = scope == std::string::npos ? full : full.substr(scope + 2);
    shared.push_back({local ? short_name(function) + "::" + variable : variable, function,
                      base_.variables + symbol.st_value, symbol.st_size});
  }

  std::vector<char> image_;
  Base base_ = base_of_program();
};

const Symbols& symbols() {
  static const Symbols found;
  return found;
}

}  // namespace

const std::string& function_at(const void* address) {
  static std::map<const void*, std::string> known;
  const auto [at, added] = known.try_emplace(address);
  const auto found = symbols().functions.find(address);
  if (added && found != symbols().functions.end()) at->second = demangled(found->second);
  return at->second;
}

std::string short_name(const std::string& function) {
  size_t begin = 0, end = function.size();
  int depth = 0;
  for (size_t i = 0; i < function.size(); ++i) {
    const char c = function[i];
    if (c == '<') ++depth;
    if (c == '>') --depth;
    if (depth > 0 || function.compare(i, 21, "(anonymous namespace)") == 0) continue;
    if (c == '(' && i > 0 && function[i - 1] != ':' && function[i - 1] != ' ') {
      end = i;
      break;
    }
    if (c == ' ' || c == ':') begin = i + 1;
  }
  return function.substr(begin, end - begin);
}

std::vector<std::string> functions_with(const std::string& scope, const std::string& part) {
  std::set<std::string> found;
  for (const auto& [address, symbol] : symbols().functions) {
    const std::string full = demangled(symbol), name = short_name(full);
    const bool inside = full.starts_with(scope) || full.starts_with("void " + scope);
    if (inside && name.substr(0, name.find('<')).find(part) != std::string::npos)
      found.insert(name);
  }
  return {found.begin(), found.end()};
}

const std::vector<Shared>& shared_variables() { return symbols().shared; }

std::string place_of([[maybe_unused]] const void* instruction) {
#ifdef CUDA_MODEL_CHECKED
  char text[512] = {};
  __sanitizer_symbolize_pc(const_cast<void*>(instruction), "%s:%l", text, sizeof text);
  const std::string full = text;
  const size_t slash = full.rfind('/');
  return slash == std::string::npos ? full : full.substr(slash + 1);
#else
  return "an unknown place";
#endif
}

}  // namespace cuda_model
