// SPDX-License-Identifier: Apache-2.0
// A kernel's arguments in guarded memory: whatever a kernel must not touch is checked after a run.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "cpu/kernels.h"
#include "elements.h"

namespace torch_gumbel::testing {

using Sizes = std::vector<int64_t>;

/// How a tensor lies in memory.
enum class Placement {
  kContiguous,
  kGaps,        // unused elements after every row of every dimension
  kStepped,     // the same, and only every third element is used
  kTransposed,  // dimensions in reverse order
  kBroadcast,   // one row serves all (inputs only)
};

constexpr auto kAllOps = [] {
  std::array<Op, static_cast<int>(Op::kNoise) + 1> all = {};  // kNoise is the last
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Op>(i);
  return all;
}();

const char* name_of(Op op);

/// Off a multiple of 16 bytes under a sanitizer, at one otherwise.
constexpr int kAnyLead = -1;

struct Case {
  Op op = Op::kSoft;
  Sizes sizes = {1, 1};  // logical shape
  int dim = 1;           // of the classes
  DType input = DType::kFloat32;
  DType grad = DType::kFloat32;
  DType output = DType::kFloat32;
  Placement input_place = Placement::kContiguous;
  Placement grad_place = Placement::kContiguous;
  Placement output_place = Placement::kContiguous;
  /// Elements between a multiple of 64 bytes and a tensor's beginning.
  int input_lead = kAnyLead, grad_lead = kAnyLead, output_lead = kAnyLead;
  int one_hot_lead = kAnyLead;  // then as the output's
  double tau = 1;
  bool tau_per_row = false;  // then row r has tau (1 + r % 5 / 2)
  DType tau_type = DType::kFloat64;
  int key_batch = 0;  // leading dimensions whose slices have keys of their own
  math::Key key = {5, 0};
  Sizes full = {};  // of which `sizes` is a part beginning at `start`; empty: the whole
  Sizes start = {};
  bool row_value = true;
  int threads = 1;  // that share the memory, as far as the kernels are told
  int64_t nontemporal_bytes = cpu::kNontemporalBytes;  // less: as if the output exceeded the caches
  double spread = 8;  // logits lie within +-spread; one in eleven is masked where `masks`
  bool masks = true;
};

/// A tensor whose surroundings and gaps hold a pattern.
class GuardedTensor {
 public:
  GuardedTensor() = default;
  GuardedTensor(DType type, const Sizes& sizes, Placement placement, int dim, int lead = kAnyLead);

  double get(int64_t offset) const { return load(type_, element(offset)); }
  void set(int64_t offset, double value) { store(type_, value, element(offset)); }
  void* data() { return bytes_.data() + margin_; }
  const Sizes& strides() const { return strides_; }

  /// Whether all bytes that are not elements hold the pattern.
  bool surroundings_intact() const;

 private:
#ifdef __SANITIZE_ADDRESS__
  // Nothing but the elements, so that the sanitizer sees a read of the next byte; memory begins at
  // a multiple of 16, so by default they lie off every vector's boundary.
  static constexpr int64_t kMargin = 0, kMarginBehind = 0, kAnyLeadBytes = 8;
#else
  static constexpr int64_t kMargin = 256, kMarginBehind = 256, kAnyLeadBytes = 0;
#endif
  const unsigned char* element(int64_t offset) const {
    return bytes_.data() + margin_ + offset * size_of(type_);
  }
  unsigned char* element(int64_t offset) {
    return bytes_.data() + margin_ + offset * size_of(type_);
  }

  DType type_ = DType::kFloat32;
  Sizes sizes_, strides_;
  int64_t margin_ = 0;  // bytes in front of the elements
  std::vector<unsigned char> bytes_;
};

/// Memory for kernels, NaN all over; nothing may be written past it. Null for no bytes.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(int64_t bytes);
  ~GuardedBuffer();
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;
  void* get() const { return data_; }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr int64_t kGuard = 0;  // the sanitizer's own
#else
  static constexpr int64_t kGuard = 256;
#endif
  int64_t bytes_;
  unsigned char* data_ = nullptr;
};

/// A case with its memory filled from a fixed stream.
class Problem {
 public:
  explicit Problem(const Case& wanted);
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  const Case& wanted() const { return case_; }
  const KernelParams& arguments() const { return arguments_; }
  KernelParams& arguments() { return arguments_; }
  int64_t rows() const { return arguments_.rows.count; }
  int64_t classes() const { return arguments_.rows.classes; }
  bool wide() const;  // computed in float64

  /// The arguments as they are now, with their plan.
  cpu::PlannedParams planned() const;

  /// Element k of row r (row-major over the dimensions other than that of the classes).
  double input(int64_t row, int64_t k) const { return input_.get(place(input_, row, k)); }
  double grad(int64_t row, int64_t k) const { return grad_.get(place(grad_, row, k)); }
  double output(int64_t row, int64_t k) const { return output_.get(place(output_, row, k)); }
  double one_hot(int64_t row, int64_t k) const { return one_hot_.get(place(one_hot_, row, k)); }
  void set_input(int64_t row, int64_t k, double value) { input_.set(place(input_, row, k), value); }
  double tau(int64_t row) const;
  math::Key key(int64_t row) const;
  uint64_t position(int64_t row, int64_t k) const;
  double row_value(int64_t row) const { return row_value_.get(row); }
  int64_t index(int64_t row) const;

  /// Runs everything as the library does; fails the test if anything else was written.
  void run(const cpu::Kernels& kernels);

  /// Calls work(scratch) with scratch of the plan, unset and guarded.
  void with_scratch(const std::function<void(void*)>& work);
  void expect_surroundings_intact() const;

  /// All results, for comparisons of bits; every NaN counts as one value.
  std::vector<uint64_t> results() const;

 private:
  Sizes row_sizes() const;
  int64_t place(const GuardedTensor& tensor, int64_t row, int64_t k) const;
  void fill();
  void describe();
  void lay(Operand operand, const Sizes& strides);
  Sizes word_strides() const;
  void fill_keys();

  Case case_;
  KernelParams arguments_;
  GuardedTensor input_, grad_, output_, one_hot_, tau_, row_value_, index_;
  std::vector<uint64_t> keys_;
};

}  // namespace torch_gumbel::testing
