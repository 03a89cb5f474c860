// SPDX-License-Identifier: Apache-2.0
// Arguments by position: their order, what does not compile, temperatures of the rows' shape, and
// calls that run out of memory before anything is drawn.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch_gumbel/torch_gumbel.h>

namespace torch_gumbel {
namespace {

using at::Generator;
using at::Tensor;
using std::nullopt;
using Absent = std::nullopt_t;

#define TG_COMPILES(Name, function) \
  template <typename... Args>       \
  constexpr bool Name = requires(Args... args) { function(args...); };
TG_COMPILES(kSoftmax, gumbel_softmax)
TG_COMPILES(kArgmax, gumbel_argmax)
TG_COMPILES(kTopk, gumbel_topk)
TG_COMPILES(kSample, sample_categorical)
TG_COMPILES(kLookup, straight_through_lookup)
TG_COMPILES(kKl, kl_categorical)
TG_COMPILES(kPerplexity, perplexity)
TG_COMPILES(kKey, torch_gumbel::key)
TG_COMPILES(kSplit, torch_gumbel::split)
TG_COMPILES(kFoldIn, fold_in)
#undef TG_COMPILES

// The whole of every function: generator and key come last.
static_assert(kSoftmax<Tensor, double, bool, int, bool, Generator, Absent>);
static_assert(kSoftmax<Tensor, Tensor, bool, int64_t, bool, Absent, Tensor>);
static_assert(kArgmax<Tensor, int, bool, int, double, Generator, Absent>);
static_assert(kArgmax<Tensor, int, bool, Absent, double, Absent, Tensor>);
static_assert(kArgmax<Tensor, Tensor, int, bool, int, Generator, Absent>);
static_assert(kTopk<Tensor, int, int, double, Generator, Absent>);
static_assert(kTopk<Tensor, int, Tensor, int, Absent, Tensor>);
static_assert(kSample<Tensor, double, bool, int, bool, Generator, Absent>);
static_assert(kSample<Tensor, Tensor, bool, int, bool, Absent, Tensor>);
static_assert(kLookup<Tensor, Tensor, double, bool, bool, Generator, Absent>);
static_assert(kLookup<Tensor, Tensor, Tensor, bool, bool, Absent, Tensor>);

// Numbers of other types, where nothing is lost.
static_assert(kSoftmax<Tensor> && kSoftmax<Tensor, int> && kSoftmax<Tensor, float, bool>);
static_assert(kSoftmax<Tensor, GumbelSoftmaxFuncOptions>);
static_assert(kArgmax<Tensor> && kArgmax<Tensor, int> && kArgmax<Tensor, Tensor>);
static_assert(kArgmax<Tensor, size_t, bool, int64_t, float>);
static_assert(kArgmax<Tensor, GumbelArgmaxFuncOptions>);
static_assert(kTopk<Tensor, int> && kTopk<Tensor, int, int, int>);
static_assert(kTopk<Tensor, GumbelTopkFuncOptions>);
static_assert(kSample<Tensor, int> && kSample<Tensor, SampleCategoricalFuncOptions>);
static_assert(kLookup<Tensor, Tensor> && kLookup<Tensor, Tensor, int>);
static_assert(kLookup<Tensor, Tensor, StraightThroughLookupFuncOptions>);
static_assert(kKl<Tensor> && kKl<Absent, Tensor, Absent, int> && kPerplexity<Tensor, int>);
static_assert(kKey<int> && kSplit<Tensor, int> && kFoldIn<Tensor, int>);

// What would be converted: a temperature in the place of dim, a dim in the place of hard.
static_assert(!kSoftmax<Tensor, bool> && !kSoftmax<Tensor, double, int>);
static_assert(!kSoftmax<Tensor, double, const char*> && !kSoftmax<Tensor, Tensor, int>);
static_assert(!kSoftmax<Tensor, double, bool, double> && !kSoftmax<Tensor, Tensor, bool, bool>);
static_assert(!kSoftmax<Tensor, double, bool, int, int>);
static_assert(!kArgmax<Tensor, double> && !kArgmax<Tensor, float> && !kArgmax<Tensor, bool>);
static_assert(!kArgmax<Tensor, int, double> && !kArgmax<Tensor, int, int>);
static_assert(!kArgmax<Tensor, int, bool, double>);  // the order that was
static_assert(!kArgmax<Tensor, Tensor, double> && !kArgmax<Tensor, Tensor, int, int>);
static_assert(!kArgmax<Tensor, Tensor, int, bool, double>);
static_assert(!kTopk<Tensor, double> && !kTopk<Tensor, int, double>);
static_assert(!kTopk<Tensor, int, Tensor, double>);
static_assert(!kSample<Tensor, bool> && !kSample<Tensor, double, int>);
static_assert(!kSample<Tensor, Tensor, bool, double> && !kSample<Tensor, double, bool, int, int>);
static_assert(!kLookup<Tensor, Tensor, bool> && !kLookup<Tensor, Tensor, double, int>);
static_assert(!kLookup<Tensor, Tensor, Tensor, bool, int>);
static_assert(!kKl<Tensor, Absent, Absent, double> && !kPerplexity<Tensor, double>);
static_assert(!kKey<double> && !kSplit<Tensor, double> && !kFoldIn<Tensor, float>);

Tensor logits() { return at::arange(60, at::kFloat).sin().view({3, 4, 5}); }

TEST(Arguments, ATemperatureMayHaveTheShapeOfTheRows) {
  const Tensor codes = at::arange(10, at::kFloat).view({5, 2});
  for (const int64_t dim : {0, 1, 2}) {
    const Tensor x = logits(), p = x.softmax(dim);
    Tensor rows = x.abs().sum(dim).set_requires_grad(true);
    const Tensor wide = rows.detach().unsqueeze(dim).set_requires_grad(true);
    const Tensor y = gumbel_softmax(x, rows, false, dim, false, nullopt, key(5));
    const Tensor wanted = gumbel_softmax(x, wide, false, dim, false, nullopt, key(5));
    EXPECT_TRUE(at::equal(y, wanted));
    (y * x).sum().backward();
    (wanted * x).sum().backward();
    EXPECT_TRUE(at::equal(rows.grad(), wide.grad().squeeze(dim)));
    EXPECT_TRUE(at::equal(gumbel_argmax(x, rows, dim, true, 3, nullopt, key(5)),
                          gumbel_argmax(x, wide, dim, true, 3, nullopt, key(5))));
    EXPECT_TRUE(at::equal(std::get<0>(gumbel_topk(x, 2, rows, dim, nullopt, key(5))),
                          std::get<0>(gumbel_topk(x, 2, wide, dim, nullopt, key(5)))));
    EXPECT_TRUE(at::equal(sample_categorical(p, rows, true, dim, true, nullopt, key(5)),
                          sample_categorical(p, wide, true, dim, true, nullopt, key(5))));
    if (dim == 2) {
      const auto drawn = straight_through_lookup(x, codes, rows, false, true, nullopt, key(5));
      const auto same = straight_through_lookup(x, codes, wide, false, true, nullopt, key(5));
      EXPECT_TRUE(at::equal(std::get<0>(drawn), std::get<0>(same)));
    }
  }
}

TEST(Arguments, NothingIsDrawnWhereResultsHaveNoMemory) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(3);
  const Tensor before = generator.get_state(), x = logits();
  const int64_t many = int64_t{1} << 60;
  EXPECT_THROW(gumbel_argmax(x, -1, false, many, 1.0, generator), c10::Error);
  EXPECT_THROW(sample_gumbel({1 << 30, 1 << 30}, {}, generator), c10::Error);
  EXPECT_THROW(gumbel_softmax(x.expand({1 << 30, 3, 4, 5}), 1.0, true, -1, false, generator),
               c10::Error);
  EXPECT_TRUE(at::equal(before, generator.get_state()));
}

TEST(Arguments, ASampleOfNoClassIsEmpty) {
  EXPECT_EQ(sample_categorical(at::ones({3, 0}), 1.0).sizes(), (at::IntArrayRef{3, 0}));
  EXPECT_THROW(sample_categorical(at::ones({3, 0}), 1.0, true), c10::IndexError);
}

}  // namespace
}  // namespace torch_gumbel
