// SPDX-License-Identifier: Apache-2.0
// What a fault says, compared with a regular expression. Those of C++ raise warnings of g++ 12.
#pragma once

#include <regex.h>

#include <string>

namespace cuda_model::testing {

inline bool contains(const std::string& text, const char* extended_expression) {
  regex_t expression;
  if (regcomp(&expression, extended_expression, REG_EXTENDED | REG_NOSUB) != 0) return false;
  const bool found = regexec(&expression, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&expression);
  return found;
}

}  // namespace cuda_model::testing
