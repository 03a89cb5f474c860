// SPDX-License-Identifier: Apache-2.0
// torch_gumbel._C: the eager path from Python to the public ops, and build information. The only
// file that sees Python.
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>
#include <torch_gumbel/torch_gumbel.h>

namespace {

using at::Tensor;
using std::optional;

Tensor softmax(const Tensor& logits, double tau, bool hard, int64_t dim, bool recompute,
               optional<at::Generator> generator, const optional<Tensor>& key) {
  return torch_gumbel::gumbel_softmax(logits, tau, hard, dim, recompute, std::move(generator), key);
}

Tensor softmax_tensor(const Tensor& logits, const Tensor& tau, bool hard, int64_t dim,
                      bool recompute, optional<at::Generator> generator,
                      const optional<Tensor>& key) {
  return torch_gumbel::gumbel_softmax(logits, tau, hard, dim, recompute, std::move(generator), key);
}

Tensor argmax(const Tensor& logits, int64_t dim, bool keepdim, optional<int64_t> num_samples,
              double temperature, optional<at::Generator> generator, const optional<Tensor>& key) {
  return torch_gumbel::gumbel_argmax(logits, dim, keepdim, num_samples, temperature,
                                     std::move(generator), key);
}

Tensor argmax_tensor(const Tensor& logits, const Tensor& temperature, int64_t dim, bool keepdim,
                     optional<int64_t> num_samples, optional<at::Generator> generator,
                     const optional<Tensor>& key) {
  return torch_gumbel::gumbel_argmax(logits, temperature, dim, keepdim, num_samples,
                                     std::move(generator), key);
}

pybind11::dict build_info() {
  const auto info = torch_gumbel::build_info();
  pybind11::dict out;
  out["version"] = info.version;
  out["torch"] = info.torch;
  out["cuda"] = info.cuda;
  out["cuda_architectures"] = info.cuda_architectures;
  out["cpu_builds"] = info.cpu_builds;
  out["cpu_selected"] = info.cpu_selected;
  return out;
}

}  // namespace

// torch::wrap_pybind_function_no_gil turns C++ errors into Python's own and releases the GIL for
// the call.
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.doc() = "Eager entry of torch_gumbel: arguments by position, checked by the C++ public ops.";
  m.def("gumbel_softmax", torch::wrap_pybind_function_no_gil(softmax));
  m.def("gumbel_softmax_tensor_tau", torch::wrap_pybind_function_no_gil(softmax_tensor));
  m.def("gumbel_argmax", torch::wrap_pybind_function_no_gil(argmax));
  m.def("gumbel_argmax_tensor_temperature", torch::wrap_pybind_function_no_gil(argmax_tensor));
  m.def("build_info", build_info, "How the library was built: a dict of strings.");
}
