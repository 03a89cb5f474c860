// SPDX-License-Identifier: Apache-2.0
#include "problem.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <new>
#include <numeric>

namespace torch_gumbel::testing {
namespace {

constexpr unsigned char kPattern = 0xA5;
#ifdef __SANITIZE_ADDRESS__
[[maybe_unused]] constexpr int64_t kGuard = 0;
#else
[[maybe_unused]] constexpr int64_t kGuard = 512;
#endif

int64_t product(const Sizes& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

Sizes strides_of(const Sizes& sizes, Placement placement, int dim) {
  const auto rank = static_cast<int>(sizes.size());
  Sizes strides(rank, 0);
  int64_t stride = placement == Placement::kStepped ? 3 : 1;
  for (int i = 0; i < rank; ++i) {
    const int d = placement == Placement::kTransposed ? i : rank - 1 - i;
    if (placement == Placement::kBroadcast && d != dim) continue;
    strides[d] = stride;
    const bool gaps = placement == Placement::kGaps || placement == Placement::kStepped;
    stride *= sizes[d] + (gaps ? 2 : 0);
  }
  return strides;
}

/// Calls f(coordinates) for every element.
template <typename F>
void for_each(const Sizes& sizes, F&& f) {
  if (product(sizes) == 0) return;
  Sizes at(sizes.size(), 0);
  while (true) {
    f(at);
    int d = static_cast<int>(sizes.size()) - 1;
    while (d >= 0 && ++at[d] == sizes[d]) at[d--] = 0;
    if (d < 0) return;
  }
}

Sizes without(const Sizes& sizes, int dim) {
  Sizes rest = sizes;
  rest.erase(rest.begin() + dim);
  return rest;
}

}  // namespace

const char* name_of(Op op) {
  const char* names[] = {"Soft", "Hard", "HardSoft", "Argmax", "Backward", "HardBackward", "Noise"};
  return names[static_cast<int>(op)];
}

GuardedTensor::GuardedTensor(DType type, const Sizes& sizes, Placement placement, int dim, int lead)
    : type_(type),
      sizes_(sizes),
      strides_(strides_of(sizes, placement, dim)),
      margin_(kMargin + (lead == kAnyLead ? kAnyLeadBytes : lead * size_of(type))) {
  constexpr int64_t kLine = 64;
  int64_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides_[d];
  const int64_t needed = margin_ + kMarginBehind + (last + 1) * size_of(type);
  bytes_.reserve(needed + (lead == kAnyLead ? 0 : kLine));
  const auto base = reinterpret_cast<uintptr_t>(bytes_.data());
  const auto skipped = lead == kAnyLead ? 0 : static_cast<int64_t>(-base % kLine);
  bytes_.assign(needed + skipped, kPattern);
  margin_ += skipped;
}

bool GuardedTensor::surroundings_intact() const {
  std::vector<char> used(bytes_.size(), false);
  for_each(sizes_, [&](const Sizes& at) {
    const int64_t offset = std::inner_product(at.begin(), at.end(), strides_.begin(), int64_t{0});
    std::fill_n(used.begin() + (element(offset) - bytes_.data()), size_of(type_), true);
  });
  for (size_t i = 0; i < bytes_.size(); ++i)
    if (!used[i] && bytes_[i] != kPattern) return false;
  return true;
}

Problem::Problem(const Case& wanted) : case_(wanted) {
  const Sizes rows = row_sizes(), count = {product(rows)};
  const auto contiguous = Placement::kContiguous;
  input_ = {case_.input, case_.sizes, case_.input_place, case_.dim, case_.input_lead};
  grad_ = {case_.grad, case_.sizes, case_.grad_place, case_.dim, case_.grad_lead};
  output_ = {case_.output, case_.sizes, case_.output_place, case_.dim, case_.output_lead};
  const int lead = case_.one_hot_lead == kAnyLead ? case_.output_lead : case_.one_hot_lead;
  if (case_.op == Op::kHardSoft)
    one_hot_ = {case_.output, case_.sizes, case_.output_place, case_.dim, lead};
  tau_ = {case_.tau_type, rows, contiguous, 0};
  row_value_ = {wide() ? DType::kFloat64 : DType::kFloat32, count, contiguous, 0};
  index_ = {DType::kFloat64, count, contiguous, 0};  // 8 bytes each
  arguments_.rows.count = count[0];
  arguments_.rows.classes = case_.sizes[case_.dim];
  fill_keys();
  describe();
  fill();
}

bool Problem::wide() const {
  return (case_.op == Op::kNoise ? case_.output : case_.input) == DType::kFloat64;
}

Sizes Problem::row_sizes() const { return without(case_.sizes, case_.dim); }

void Problem::fill_keys() {
  const int64_t batches = product({case_.sizes.begin(), case_.sizes.begin() + case_.key_batch});
  for (int64_t i = 0; i < batches; ++i) {
    const math::Key key = case_.key_batch == 0 ? case_.key : math::fold_in(case_.key, i);
    keys_.insert(keys_.end(), {key.seed, key.offset});
  }
}

Sizes Problem::word_strides() const {
  Sizes strides(case_.sizes.size(), 0);
  int64_t stride = 1;
  for (int d = static_cast<int>(strides.size()) - 1; d >= case_.key_batch; --d) {
    strides[d] = stride;
    stride *= case_.full.empty() ? case_.sizes[d] : case_.full[d];
  }
  return strides;
}

void Problem::lay(Operand operand, const Sizes& strides) {
  const auto o = static_cast<int>(operand);
  arguments_.rows.class_stride[o] = strides[case_.dim];
  const Sizes rest = without(strides, case_.dim);
  std::copy(rest.begin(), rest.end(), arguments_.rows.stride[o]);
}

void Problem::describe() {
  KernelParams& a = arguments_;
  const Sizes rows = row_sizes();
  a.rows.dims = static_cast<int32_t>(rows.size());
  std::copy(rows.begin(), rows.end(), a.rows.size);
  lay(Operand::kInput, input_.strides());
  lay(Operand::kGrad, grad_.strides());
  lay(Operand::kOutput, output_.strides());
  lay(Operand::kWord, word_strides());
  const Sizes words = word_strides();
  for (size_t d = 0; d < case_.start.size(); ++d)
    a.rows.first_word += static_cast<uint64_t>(words[d] * case_.start[d]);
  Sizes tau = tau_.strides(), key(case_.sizes.size(), 0);
  tau.insert(tau.begin() + case_.dim, 0);
  int64_t key_stride = 2;
  for (int d = case_.key_batch - 1; d >= 0; key_stride *= case_.sizes[d--]) key[d] = key_stride;
  lay(Operand::kTau, tau);
  lay(Operand::kKey, key);
  const bool choice = case_.op == Op::kArgmax, draw = case_.op == Op::kNoise;
  const bool back = case_.op == Op::kBackward || case_.op == Op::kHardBackward;
  const bool valued = case_.row_value && (back || choice || case_.op == Op::kSoft);
  a.input = draw ? nullptr : input_.data(), a.input_type = case_.input;
  a.grad = back ? grad_.data() : nullptr, a.grad_type = case_.grad;
  a.output = choice ? nullptr : output_.data(), a.output_type = case_.output;
  a.one_hot = case_.op == Op::kHardSoft ? one_hot_.data() : nullptr;
  a.tau = case_.tau_per_row ? tau_.data() : nullptr, a.tau_type = case_.tau_type;
  a.host_tau = case_.tau;
  a.key = case_.key_batch > 0 ? keys_.data() : nullptr, a.host_key = case_.key;
  a.row_value = valued ? row_value_.data() : nullptr;
  a.index = choice ? static_cast<int64_t*>(index_.data()) : nullptr;
}

void Problem::fill() {
  const auto random = [](uint64_t i) { return math::key_word({77, 0}, i) * 0x1p-31 - 1; };
  for (int64_t r = 0; r < rows(); ++r) {
    tau_.set(r, case_.tau * (1 + r % 5 * 0.5));
    double total = 0;
    for (int64_t k = 0; k < classes(); ++k) {
      const uint64_t i = static_cast<uint64_t>(r * classes() + k);
      const bool masked = case_.masks && k > 0 && math::key_word({78, 0}, i) % 11 == 0;
      const double x = masked ? -INFINITY : case_.spread * random(2 * i);
      set_input(r, k, x);
      grad_.set(place(grad_, r, k), random(2 * i + 1) * 3);
      if (case_.op == Op::kBackward) total += std::exp(input(r, k));
    }
    if (case_.op != Op::kBackward) continue;
    for (int64_t k = 0; k < classes(); ++k)  // a sample instead of logits
      set_input(r, k, std::exp(input(r, k)) / total);
  }
}

int64_t Problem::place(const GuardedTensor& tensor, int64_t row, int64_t k) const {
  int64_t offset = k * tensor.strides()[case_.dim];
  for (int d = static_cast<int>(case_.sizes.size()) - 1; d >= 0; --d) {
    if (d == case_.dim) continue;
    offset += row % case_.sizes[d] * tensor.strides()[d];
    row /= case_.sizes[d];
  }
  return offset;
}

double Problem::tau(int64_t row) const { return case_.tau_per_row ? tau_.get(row) : case_.tau; }

math::Key Problem::key(int64_t row) const {
  int64_t rows_of_a_key = 1;
  for (size_t d = case_.key_batch; d < case_.sizes.size(); ++d)
    if (static_cast<int>(d) != case_.dim) rows_of_a_key *= case_.sizes[d];
  const int64_t batch = case_.key_batch == 0 ? 0 : row / rows_of_a_key;
  return {keys_[2 * batch], keys_[2 * batch + 1]};
}

uint64_t Problem::position(int64_t row, int64_t k) const {
  uint64_t position = 0, stride = 1;
  for (int d = static_cast<int>(case_.sizes.size()) - 1; d >= case_.key_batch; --d) {
    const int64_t coordinate = d == case_.dim ? k : row % case_.sizes[d];
    if (d != case_.dim) row /= case_.sizes[d];
    position += stride * (coordinate + (case_.start.empty() ? 0 : case_.start[d]));
    stride *= case_.full.empty() ? case_.sizes[d] : case_.full[d];
  }
  return position;
}

int64_t Problem::index(int64_t row) const {
  int64_t value = 0;
  std::memcpy(&value, arguments_.index + row, sizeof value);
  return value;
}

GuardedBuffer::GuardedBuffer(int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  data_ = static_cast<unsigned char*>(::operator new(bytes + kGuard, std::align_val_t{64}));
  std::memset(data_, 0xFF, bytes);  // NaN
  std::memset(data_ + bytes, kPattern, kGuard);
}

GuardedBuffer::~GuardedBuffer() {
  bool intact = true;
  for (int64_t i = 0; data_ != nullptr && i < kGuard; ++i) intact &= data_[bytes_ + i] == kPattern;
  EXPECT_TRUE(intact) << "wrote beyond " << bytes_ << " bytes of scratch";
  ::operator delete(data_, std::align_val_t{64});
}

cpu::PlannedParams Problem::planned() const {
  return {arguments_, case_.op,
          cpu::make_plan(case_.op, arguments_, case_.threads, case_.nontemporal_bytes)};
}

void Problem::with_scratch(const std::function<void(void*)>& work) {
  const GuardedBuffer scratch(planned().plan.scratch_bytes);
  work(scratch.get());
}

void Problem::run(const cpu::Kernels& kernels) {
  const cpu::PlannedParams a = planned();
  if (a.plan.path != cpu::Path::kTiles) {
    with_scratch([&](void* s) { kernels.rows(a, 0, rows(), s); });
  } else {
    const int64_t tiles = cpu::tiles_of(classes());
    std::vector<cpu::TileStat> stats(tiles);
    for (int64_t r = 0; r < rows(); ++r)
      with_scratch([&](void* s) {
        const GuardedBuffer weight_cache(a.plan.weight_cache_bytes);
        kernels.reduce_tiles(a, r, 0, tiles, stats.data(), s, weight_cache.get());
        kernels.finish_tiles(a, r, 0, tiles, stats.data(), s, weight_cache.get());
        kernels.finish_row(a, r, stats.data());
      });
  }
  expect_surroundings_intact();
}

void Problem::expect_surroundings_intact() const {
  EXPECT_TRUE(output_.surroundings_intact());
  if (case_.op == Op::kHardSoft) {
    EXPECT_TRUE(one_hot_.surroundings_intact());
  }
  EXPECT_TRUE(row_value_.surroundings_intact());
  EXPECT_TRUE(index_.surroundings_intact());
}

std::vector<uint64_t> Problem::results() const {
  std::vector<uint64_t> bits;
  const auto add = [&](double value) {
    uint64_t word = ~uint64_t{0};
    if (!std::isnan(value)) std::memcpy(&word, &value, sizeof word);
    bits.push_back(word);
  };
  for (int64_t r = 0; r < rows(); ++r) {
    if (arguments_.output != nullptr)
      for (int64_t k = 0; k < classes(); ++k) add(output(r, k));
    if (arguments_.one_hot != nullptr)
      for (int64_t k = 0; k < classes(); ++k) add(one_hot(r, k));
    if (arguments_.row_value != nullptr) add(row_value(r));
    if (arguments_.index != nullptr) bits.push_back(static_cast<uint64_t>(index(r)));
  }
  return bits;
}

}  // namespace torch_gumbel::testing
