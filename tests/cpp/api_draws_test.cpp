// SPDX-License-Identifier: Apache-2.0
// Filtered draws and filtered logits.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>

namespace torch_gumbel {
namespace {

using Draw = SampleLogitsFuncOptions;
using Filter = FilterLogitsFuncOptions;

at::Tensor law() {
  return at::tensor({.4, .25, .15, .1, .06, .04}, at::kDouble).log().to(at::kFloat);
}

TEST(FilteredDraw, KeepsTheClassesOfItsFilters) {
  const auto keeps = [](const Filter& options, int64_t classes) {
    const auto filtered = filter_logits(law(), options);
    return at::equal(filtered.isfinite(), at::arange(6).lt(classes)) &&
           at::equal(filtered.narrow(0, 0, classes), law().narrow(0, 0, classes));
  };
  EXPECT_TRUE(keeps(Filter(), 6));
  EXPECT_TRUE(keeps(Filter().top_k(3), 3));
  EXPECT_TRUE(keeps(Filter().top_p(.75), 3));
  EXPECT_TRUE(keeps(Filter().min_p(.3), 3));
  EXPECT_TRUE(keeps(Filter().top_k(at::scalar_tensor(4, at::kLong)).top_p(.9).min_p(.5), 2));
  EXPECT_TRUE(keeps(Filter().temperature(0), 1));
}

TEST(FilteredDraw, GivesWhatWasAskedFor) {
  const auto x = law().expand({3, 5, 6}).transpose(1, 2);
  const auto p = at::full({3, 5}, .75);
  auto [index, log_prob, entropy] =
      sample_logits(x, Draw().dim(1).top_p(p).num_samples(200).return_log_prob(true).key(key(5)));
  EXPECT_EQ(index.sizes(), (at::IntArrayRef{200, 3, 5}));
  EXPECT_LT(index.max().item<int64_t>(), 3);
  const auto kept = at::tensor({.5, .3125, .1875}, at::kFloat);
  EXPECT_TRUE(
      at::allclose(log_prob.exp(), kept.index_select(0, index.flatten()).view(index.sizes())));
  EXPECT_EQ(entropy.numel(), 0);
  auto [plain, none, alike] = sample_logits(x, Draw().dim(1).key(key(5)));
  EXPECT_TRUE(at::equal(plain, gumbel_argmax(x, 1, false, std::nullopt, 1.0, {}, key(5))));
  EXPECT_EQ(none.numel() + alike.numel(), 0);
}

TEST(FilteredDraw, RefusesNumbersOutOfRange) {
  const auto x = law();
  for (const auto& options :
       {Draw().top_k(-2), Draw().top_p(0), Draw().top_p(1.1), Draw().min_p(-.1), Draw().min_p(NAN),
        Draw().temperature(-1), Draw().num_samples(0)})
    EXPECT_THROW(sample_logits(x, options), c10::ValueError);
  EXPECT_THROW(filter_logits(x, Filter().top_p(at::ones({4}))), c10::ValueError);
  EXPECT_THROW(filter_logits(x, Filter().top_k(at::ones({}))), c10::TypeError);
  EXPECT_THROW(sample_logits(x.to(at::kInt)), c10::TypeError);
  EXPECT_THROW(sample_logits(x, Draw().dim(1)), c10::IndexError);
  const auto bad = sample_logits(x, Draw().top_p(at::full({}, 2.0)).return_entropy(true));
  EXPECT_EQ(std::get<0>(bad).item<int64_t>(), 0);
  EXPECT_TRUE(std::isnan(std::get<2>(bad).item<double>()));
}

}  // namespace
}  // namespace torch_gumbel
