// SPDX-License-Identifier: Apache-2.0
/// \file
/// What the library shows.
#pragma once

#if defined(__GNUC__)
#define TORCH_GUMBEL_API __attribute__((visibility("default")))
#else
#define TORCH_GUMBEL_API
#endif
