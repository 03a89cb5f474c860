// SPDX-License-Identifier: Apache-2.0
/// \file
/// Arguments that C++ would turn into something else without a warning. Functions declare overloads
/// for them that are deleted, so that gumbel_argmax(x, 0.7) and gumbel_softmax(x, 0.5, -1) do not
/// compile.
#pragma once

#include <concepts>
#include <type_traits>

namespace torch_gumbel::refused {

/// In the place of an integer (`dim`, a number of things): a floating-point number, a bool.
template <typename T>
concept NotAnInteger = std::floating_point<T> || std::same_as<T, bool>;

/// In the place of a bool (`hard`): a number, an enumerator, a pointer.
template <typename T>
concept NotABool = std::is_scalar_v<T> && !std::same_as<T, bool>;

/// In the place of a temperature that a bool follows: that bool.
template <typename T>
concept ABool = std::same_as<T, bool>;

}  // namespace torch_gumbel::refused
