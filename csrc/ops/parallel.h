// SPDX-License-Identifier: Apache-2.0
// Loops shared among PyTorch's threads, with any compiler. at::parallel_for is a template that has
// to be compiled for LibTorch's own OpenMP runtime; without it, it is a plain loop in silence.
#pragma once

#include <c10/util/Exception.h>
#include <torch/csrc/stable/c/shim.h>

#include <atomic>
#include <cstdint>
#include <exception>

namespace torch_gumbel::ops {

/// f(first, last) on ranges that cover [begin, end), each of at least `grain` (> 0) but the last, on
/// as many threads as torch::set_num_threads allows. An exception of one of them is thrown here.
template <typename F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  if (begin >= end) return;
  if (end - begin <= grain) return f(begin, end);
  struct Context {
    const F& f;
    std::atomic_flag failed = ATOMIC_FLAG_INIT;
    std::exception_ptr error = nullptr;
  } context{f};
  const auto part = [](int64_t first, int64_t last, void* to) {
    auto& context = *static_cast<Context*>(to);
    try {
      context.f(first, last);
    } catch (...) {  // no exception crosses the C interface with its type
      if (!context.failed.test_and_set()) context.error = std::current_exception();
    }
  };
  const AOTITorchError status = torch_parallel_for(begin, end, grain, part, &context);
  if (context.error) std::rethrow_exception(context.error);
  TORCH_CHECK(status == AOTI_TORCH_SUCCESS, "torch_gumbel: torch_parallel_for failed");
}

}  // namespace torch_gumbel::ops
