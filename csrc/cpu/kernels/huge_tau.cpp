// SPDX-License-Identifier: Apache-2.0
#include "huge_tau.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <limits>

#include "../../math/gumbel.h"
#include "../../math/softmax.h"

namespace torch_gumbel::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// f(pointer to elements of the type); `Data` is void or const void.
template <typename Data, typename F>
void dispatch_dtype(DType type, Data* data, F&& f) {
  const auto as = [&](auto zero) {
    using Element = decltype(zero);
    using Pointee = std::conditional_t<std::is_const_v<Data>, const Element, Element>;
    f(static_cast<Pointee*>(data));
  };
  switch (type) {
    case DType::kFloat32:
      return as(float{});
    case DType::kFloat64:
      return as(double{});
    case DType::kFloat16:
      return as(c10::Half{});
    case DType::kBFloat16:
      return as(c10::BFloat16{});
  }
}

double number_at(DType type, const void* data, int64_t at) {
  double value = 0;
  dispatch_dtype(type, data,
                 [&](const auto* elements) { value = static_cast<double>(elements[at]); });
  return value;
}

/// float64 goes to a half by way of float32, as in the kernels.
void write_at(DType type, void* data, int64_t at, double value) {
  dispatch_dtype(type, data, [&](auto* elements) {
    using Element = std::remove_pointer_t<decltype(elements)>;
    if constexpr (sizeof(Element) == sizeof(double))
      elements[at] = value;
    else
      elements[at] = static_cast<Element>(static_cast<float>(value));
  });
}

double least_huge_tau(const KernelParams& a) {
  return a.input_type == DType::kFloat64 ? 0x1p1000 : 0x1p120;
}

/// Whether a temperature of dimensions [0, dims) is huge; a dimension that shares one counts once.
bool any_huge(const KernelParams& a, int dims, int64_t at) {
  if (dims == 0) return number_at(a.tau_type, a.tau, at) >= least_huge_tau(a);
  const int64_t stride = a.rows.stride[static_cast<int>(Operand::kTau)][dims - 1];
  const int64_t count = stride == 0 ? 1 : a.rows.size[dims - 1];
  bool any = false;
  if (dims == 1)
    dispatch_dtype(a.tau_type, a.tau, [&](const auto* taus) {
      const double least = least_huge_tau(a);
      for (int64_t i = 0; i < count; ++i)
        any |= static_cast<double>(taus[at + i * stride]) >= least;
    });
  for (int64_t i = 0; dims > 1 && i < count && !any; ++i)
    any = any_huge(a, dims - 1, at + i * stride);
  return any;
}

/// One row in float64.
class HugeRow {
 public:
  HugeRow(const KernelParams& a, int64_t index)
      : a_(a),
        index_(index),
        row_(row_at(a.rows, index)),
        tau_(a.tau == nullptr ? a.host_tau : number_at(a.tau_type, a.tau, row_[Operand::kTau])) {}

  bool is_huge() const { return tau_ >= least_huge_tau(a_) && math::valid_temperature(tau_); }

  void redo(Op op) {
    for_each_class([&](int64_t k) { max_ = std::fmax(max_, score(k)); });
    for_each_class([&](int64_t k) { sum_ += weight(k); });  // NaN for a row without a distribution
    op == Op::kHardBackward ? write_gradient() : write_sample();
  }

 private:
  template <typename F>
  void for_each_class(F&& f) const {
    for (int64_t k = 0; k < a_.rows.classes; ++k) f(k);
  }
  int64_t offset(Operand operand, int64_t k) const {
    return row_[operand] + k * a_.rows.step(operand);
  }

  /// The logit plus noise, rounded to the opmath type.
  double score(int64_t k) const {
    const double x = number_at(a_.input_type, a_.input, offset(Operand::kInput, k));
    const math::Key key = key_of(a_, row_);
    const auto position = static_cast<uint64_t>(offset(Operand::kWord, k));
    const uint32_t word = math::key_word(key, position);
    const uint32_t extension = math::key_word(key, position, math::Plane::kExtension);
    if (a_.input_type == DType::kFloat64) return x + math::gumbel64(word, extension);
    return static_cast<double>(static_cast<float>(x) + math::gumbel(word, extension));
  }
  /// Divided before it is subtracted. A largest score of -inf or +inf gives NaN.
  double scaled(int64_t k) const {
    constexpr double kDown = 0x1p-40;
    const double tau = tau_ * kDown;
    return score(k) * kDown / tau - max_ * kDown / tau;
  }
  double weight(int64_t k) const { return std::exp(scaled(k)); }

  void write_sample() const {
    for_each_class([&](int64_t k) {
      write_at(a_.output_type, const_cast<void*>(a_.output), offset(Operand::kOutput, k),
               weight(k) / sum_);
    });
    if (a_.row_value == nullptr) return;
    write_row(max_ == -kInfinity && all_masked() ? -kInfinity : max_ / tau_ + std::log(sum_));
  }
  bool all_masked() const {
    bool all = true;
    for_each_class([&](int64_t k) { all &= score(k) == -kInfinity; });
    return all;
  }

  double grad(int64_t k) const {
    return number_at(a_.grad_type, a_.grad, offset(Operand::kGrad, k));
  }
  void write_gradient() const {
    double dot = 0, at_tau = 0;
    for_each_class([&](int64_t k) { dot += weight(k) / sum_ * grad(k); });
    for_each_class([&](int64_t k) {
      const double y = weight(k) / sum_, gradient = y * (grad(k) - dot) / tau_;
      at_tau -= y > 0 ? gradient * std::log(y) : gradient;
      write_at(a_.output_type, const_cast<void*>(a_.output), offset(Operand::kOutput, k), gradient);
    });
    if (a_.row_value != nullptr) write_row(at_tau);
  }
  void write_row(double value) const {
    const bool wide = a_.input_type == DType::kFloat64;
    write_at(wide ? DType::kFloat64 : DType::kFloat32, a_.row_value, index_, value);
  }

  const KernelParams& a_;
  int64_t index_;
  Row row_;
  double tau_, max_ = -kInfinity, sum_ = 0;
};

}  // namespace

bool any_huge_tau(const KernelParams& a) {
  if (a.tau == nullptr) return a.host_tau >= least_huge_tau(a);
  return any_huge(a, a.rows.dims, 0);
}

void redo_huge_tau(Op op, const KernelParams& a) {
  for (int64_t i = 0; i < a.rows.count; ++i)
    if (HugeRow row(a, i); row.is_huge()) row.redo(op);
}

}  // namespace torch_gumbel::cpu
