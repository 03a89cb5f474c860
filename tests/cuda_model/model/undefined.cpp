// SPDX-License-Identifier: Apache-2.0
// What -fsanitize=undefined calls in the kernels, instead of its own library's functions: it names
// the kernel, block, and thread.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block.h"

namespace {

/// How every description of an error begins.
struct Site {
  const char* file;
  uint32_t line;
  uint32_t column;
};

struct Type {
  uint16_t kind, info;
  char name[1];
};

/// A pointer that is null, misaligned, or to too small an object.
struct Pointer {
  Site site;
  const Type* type;
  unsigned char log_alignment;
  unsigned char use;
};

[[noreturn]] void report(const Site& site, const std::string& what) {
  const char* slash = std::strrchr(site.file, '/');
  const std::string place =
      std::string(slash == nullptr ? site.file : slash + 1) + ":" + std::to_string(site.line);
  if (cuda_model::block().current() != nullptr) cuda_model::block().fail(what, place);
  std::fprintf(stderr, "%s: %s\n", place.c_str(), what.c_str());
  std::abort();
}

}  // namespace

/// A thread that ends with a fault leaves its message.
extern "C" [[gnu::visibility("default")]] const char* __asan_default_options() {
  return "detect_leaks=0";
}

extern "C" void __ubsan_handle_type_mismatch_v1(const Pointer* data, uintptr_t address) {
  const uintptr_t alignment = uintptr_t{1} << data->log_alignment;
  const std::string type = data->type->name;
  if (address == 0) report(data->site, "a null pointer to " + type);
  if (address % alignment != 0)
    report(data->site, "a misaligned pointer to " + type + ", which needs " +
                           std::to_string(alignment) + " bytes");
  report(data->site, "a pointer to an object smaller than " + type);
}

#define CUDA_MODEL_UNDEFINED(name, what) \
  extern "C" void __ubsan_handle_##name(const Site* site) { report(*site, what); }

CUDA_MODEL_UNDEFINED(out_of_bounds, "an array index out of bounds")
CUDA_MODEL_UNDEFINED(add_overflow, "signed overflow")
CUDA_MODEL_UNDEFINED(sub_overflow, "signed overflow")
CUDA_MODEL_UNDEFINED(mul_overflow, "signed overflow")
CUDA_MODEL_UNDEFINED(negate_overflow, "signed overflow")
CUDA_MODEL_UNDEFINED(divrem_overflow, "division by zero, or signed overflow")
CUDA_MODEL_UNDEFINED(shift_out_of_bounds, "a shift out of bounds")
CUDA_MODEL_UNDEFINED(pointer_overflow, "pointer arithmetic that overflows")
CUDA_MODEL_UNDEFINED(load_invalid_value, "an invalid bool or enumeration")
CUDA_MODEL_UNDEFINED(float_cast_overflow, "a conversion out of range")
CUDA_MODEL_UNDEFINED(nonnull_arg, "a null argument")
CUDA_MODEL_UNDEFINED(builtin_unreachable, "code that must not be reached")
CUDA_MODEL_UNDEFINED(missing_return, "a function without a result")
