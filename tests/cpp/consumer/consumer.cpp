// SPDX-License-Identifier: Apache-2.0
// Names no symbol of torch_gumbel: its ops are found only if the linker kept the library.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cstdio>

int main() {
  const auto op = c10::Dispatcher::singleton().findSchema({"torch_gumbel::gumbel_softmax", ""});
  if (!op.has_value()) {
    std::puts("the op is not registered");
    return 1;
  }
  std::vector<c10::IValue> stack = {at::zeros({3, 4}), 0.5,          true, -1, false,
                                    c10::IValue(),     c10::IValue()};
  op->callBoxed(stack);
  const double ones = stack[0].toTensor().sum().item<double>();
  std::printf("rows with a choice: %g\n", ones);
  return ones == 3 ? 0 : 1;
}
