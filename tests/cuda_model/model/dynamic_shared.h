// SPDX-License-Identifier: Apache-2.0
// A definition for `extern __shared__ T name[]`, which CUDA makes by itself: to be put into the
// namespace of the declaration, once in the program.
#pragma once

#include "memory.h"

#define CUDA_MODEL_DYNAMIC_SHARED(T, name) \
  alignas(16) thread_local T name[cuda_model::kMostShared / sizeof(T)]
