// SPDX-License-Identifier: Apache-2.0
// One build of the kernels' stages. No standard header with functions in it may be included here:
// they would be built for this instruction set and could then serve the whole program.
#include "isa_probe.h"

#include <type_traits>

#include "cpu/simd/convert.h"
#include "cpu/simd/vec_loop.h"
#include "cpu/simd/words.h"

#define TG_TEXT_OF(name) #name
#define TG_TEXT(name) TG_TEXT_OF(name)

namespace torch_gumbel::cpu::TG_ISA {
namespace {

void fill(math::Key key, uint64_t first, int64_t blocks, math::Plane plane, uint32_t* words) {
  fill_words(key, first, blocks, plane, words);
}

void runs_of_words(math::Key key, uint64_t first, uint64_t step, int64_t runs, int64_t count,
                   math::Plane plane, uint32_t* words) {
  fill_runs(key, first, step, runs, count, plane, words);
}

int64_t stride_of_run(int64_t count) { return run_stride(count); }

void gumbel(const uint32_t* words, int64_t count, float* noise) {
  for_each_vec<float>(0, count, [&](auto at) TG_INLINE {
    at.store(math::gumbel_of_exp1(math::exp1(at.load(words))), noise);
  });
}

void gumbel_extended(const uint32_t* words, const uint32_t* extensions, int64_t count,
                     float* noise) {
  for (int64_t i = 0; i < count; ++i) noise[i] = math::gumbel(words[i], extensions[i]);
}

void gumbel64(const uint32_t* words, const uint32_t* extensions, int64_t count, double* noise) {
  for (int64_t i = 0; i < count; ++i) noise[i] = math::gumbel64(words[i], extensions[i]);
}

template <typename T>
void exp_scaled(const T* d, int64_t count, double tau, T* result) {
  const auto scale = math::exponent_scale<T>(tau);
  for_each_vec<T>(
      0, count, [&](auto at) TG_INLINE { at.store(math::exp_scaled(at.load(d), scale), result); });
}

void log_probability(const float* y, int64_t count, float* result) {
  for (int64_t i = 0; i < count; ++i) result[i] = math::log_probability(y[i]);
}

template <typename Element>
void widen_run(const uint16_t* from, int64_t count, float* to) {
  load_run(reinterpret_cast<const Element*>(from), count, to);
}

template <typename Element>
void narrow_run(const float* from, int64_t count, uint16_t* to) {
  store_run(from, count, reinterpret_cast<Element*>(to));
}

}  // namespace

extern const testing::IsaProbe probe;
const testing::IsaProbe probe = {
    .name = TG_TEXT(TG_ISA),
    .word_slack = kWordSlack,
    .fill_words = fill,
    .fill_runs = runs_of_words,
    .run_stride = stride_of_run,
    .gumbel = gumbel,
    .gumbel_extended = gumbel_extended,
    .gumbel64 = gumbel64,
    .exp_scaled = exp_scaled<float>,
    .exp_scaled64 = exp_scaled<double>,
    .log_probability = log_probability,
    .widen_half = widen_run<Half>,
    .widen_bfloat16 = widen_run<BFloat16>,
    .narrow_half = narrow_run<Half>,
    .narrow_bfloat16 = narrow_run<BFloat16>,
};

}  // namespace torch_gumbel::cpu::TG_ISA
