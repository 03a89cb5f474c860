// SPDX-License-Identifier: Apache-2.0
// What the public functions refuse: the type of the error, its message, and no generator moved.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch_gumbel/torch_gumbel.h>

#include <cmath>
#include <functional>
#include <string>

namespace torch_gumbel {
namespace {

using std::nullopt;

at::Generator default_generator() { return at::detail::getDefaultCPUGenerator(); }

/// `call` throws Error with `text` in its message, and neither generator moves.
template <typename Error>
void expect_error(const std::string& text, const std::function<void(at::Generator)>& call) {
  const auto own = at::make_generator<at::CPUGeneratorImpl>(3);
  const auto before = default_generator().get_state(), own_before = own.get_state();
  try {
    call(own);
    ADD_FAILURE() << "nothing was thrown; wanted: " << text;
  } catch (const Error& error) {
    const std::string what = error.what_without_backtrace();
    EXPECT_NE(what.find(text), std::string::npos) << "got: " << what << "\nwanted: " << text;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another type of error, wanted: " << text << "\ngot: " << error.what();
  }
  EXPECT_TRUE(at::equal(before, default_generator().get_state())) << text;
  EXPECT_TRUE(at::equal(own_before, own.get_state())) << text;
}

at::Tensor logits() { return at::zeros({2, 3}); }

TEST(Errors, TemperatureMustBePositiveAndFinite) {
  const double kInfinity = INFINITY;
  for (const double tau : {0.0, -0.0, -1.0, kInfinity, -kInfinity, std::nan("")}) {
    expect_error<c10::ValueError>(
        "gumbel_softmax: tau must be > 0 and finite, got ",
        [&](const at::Generator& g) { gumbel_softmax(logits(), tau, false, -1, false, g); });
    if (tau == 0) continue;  // the plain argmax
    expect_error<c10::ValueError>(
        "gumbel_argmax: temperature must be >= 0 and finite, got ",
        [&](const at::Generator& g) { gumbel_argmax(logits(), -1, false, nullopt, tau, g); });
  }
  expect_error<c10::ValueError>(
      "got -1", [](auto g) { gumbel_softmax(logits(), -1.0, false, -1, false, g); });
}

TEST(Errors, TemperatureTensorMustFit) {
  for (const auto& tau :
       {at::ones({3}), at::ones({2, 3}), at::ones({4, 1}), at::ones({1, 2, 1}), at::ones({0})})
    expect_error<c10::ValueError>(
        "gumbel_softmax: tau must have one value, or one per row",
        [&](const at::Generator& g) { gumbel_softmax(logits(), tau, false, -1, false, g); });
  for (const auto type : {at::kBool, at::kComplexFloat})
    expect_error<c10::TypeError>("gumbel_softmax: tau must be a real tensor, got ", [&](auto g) {
      gumbel_softmax(logits(), at::ones({}, type), false, -1, false, g);
    });
}

TEST(Errors, LogitsMustBeFloatingPoint) {
  for (const auto type :
       {at::kInt, at::kLong, at::kBool, at::kByte, at::kComplexFloat, at::kComplexDouble}) {
    const auto wrong = at::zeros({2, 3}, type);
    expect_error<c10::TypeError>(
        "gumbel_softmax: logits must be float32, float64, float16, or bfloat16, got ",
        [&](const at::Generator& g) { gumbel_softmax(wrong, 1.0, false, -1, false, g); });
    expect_error<c10::TypeError>("gumbel_argmax: logits must be ",
                                 [&](auto g) { gumbel_argmax(wrong, -1, false, nullopt, 1.0, g); });
  }
  expect_error<c10::TypeError>("logits must be a strided tensor", [](const at::Generator& g) {
    gumbel_softmax(at::eye(3).to_sparse(), 1.0, false, -1, false, g);
  });
  expect_error<c10::TypeError>("logits must be a tensor, got an undefined one", [](auto g) {
    gumbel_softmax(at::Tensor(), 1.0, false, -1, false, g);
  });
}

TEST(Errors, DimMustBeInRange) {
  for (const int64_t dim : {2, -3, 100}) {
    expect_error<c10::IndexError>(
        "gumbel_softmax: dim must be in [-2, 1], got " + std::to_string(dim),
        [&](const at::Generator& g) { gumbel_softmax(logits(), 1.0, false, dim, false, g); });
    expect_error<c10::IndexError>(
        "gumbel_argmax: dim must be in [-2, 1], got ",
        [&](const at::Generator& g) { gumbel_argmax(logits(), dim, false, nullopt, 1.0, g); });
  }
  expect_error<c10::IndexError>("dim must be in [-1, 0], got 1", [](const at::Generator& g) {
    gumbel_softmax(at::zeros({}), 1.0, false, 1, false, g);
  });
}

TEST(Errors, AChoiceNeedsAClass) {
  const auto empty = at::zeros({2, 0});
  expect_error<c10::IndexError>("gumbel_softmax: wanted at least one class",
                                [&](auto g) { gumbel_softmax(empty, 1.0, true, -1, false, g); });
  expect_error<c10::IndexError>("gumbel_argmax: wanted at least one class",
                                [&](auto g) { gumbel_argmax(empty, -1, false, nullopt, 1.0, g); });
}

TEST(Errors, KeyMustFit) {
  const auto soft = [](const at::Tensor& wrong) {
    return [=](const at::Generator&) {
      gumbel_softmax(logits(), 1.0, false, -1, false, nullopt, wrong);
    };
  };
  for (const auto type : {at::kInt, at::kFloat, at::kUInt32})
    expect_error<c10::TypeError>("gumbel_softmax: key must be a uint64 or int64 tensor, got ",
                                 soft(at::zeros({2}, type)));
  for (const auto& wrong :
       {at::zeros({3}, at::kLong), at::zeros({}, at::kLong), at::zeros({2, 3}, at::kLong)})
    expect_error<c10::ValueError>("gumbel_softmax: key must have shape [*batch, 2]", soft(wrong));
  for (const auto& wrong : {at::zeros({3, 2}, at::kLong), at::zeros({2, 3, 2}, at::kLong)})
    expect_error<c10::ValueError>("with batch the leading sizes before dim", soft(wrong));
  expect_error<c10::ValueError>("with batch the leading sizes before dim", [](auto) {
    gumbel_argmax(logits(), 0, false, nullopt, 1.0, nullopt, at::zeros({2, 2}, at::kLong));
  });
}

TEST(Errors, KeyAndGeneratorExcludeEachOther) {
  expect_error<c10::ValueError>(
      "gumbel_softmax: wanted a key or a generator, got both",
      [](const at::Generator& g) { gumbel_softmax(logits(), 1.0, false, -1, false, g, key(1)); });
  expect_error<c10::ValueError>(
      "gumbel_argmax: wanted a key or a generator, got both",
      [](const at::Generator& g) { gumbel_argmax(logits(), -1, false, nullopt, 1.0, g, key(1)); });
}

TEST(Errors, GeneratorMustBeOnTheDevice) {
  const auto meta = at::zeros({2, 3}, at::TensorOptions().device(at::kMeta));
  expect_error<c10::ValueError>("gumbel_softmax: generator must be on meta, got one on cpu",
                                [&](auto g) { gumbel_softmax(meta, 1.0, false, -1, false, g); });
  expect_error<c10::ValueError>("new_key: generator must be on meta, got one on cpu",
                                [](auto g) { new_key(g, at::Device(at::kMeta)); });
}

TEST(Errors, KeysMustBeKeys) {
  expect_error<c10::TypeError>("split: key must be a uint64 or int64 tensor",
                               [](auto) { torch_gumbel::split(at::zeros({2})); });
  expect_error<c10::ValueError>("split: num must be > 0, got 0",
                                [](auto) { torch_gumbel::split(key(1), 0); });
  expect_error<c10::ValueError>("split: num must be > 0, got -2",
                                [](auto) { torch_gumbel::split(key(1), -2); });
  expect_error<c10::ValueError>("fold_in: key must have shape [*batch, 2]",
                                [](auto) { fold_in(at::zeros({4}, at::kLong), 1); });
}

TEST(Errors, TheNextCallIsUnaffected) {
  const auto first = at::make_generator<at::CPUGeneratorImpl>(3);
  const auto second = at::make_generator<at::CPUGeneratorImpl>(3);
  EXPECT_THROW(gumbel_softmax(logits(), 0.0, false, -1, false, first), c10::ValueError);
  EXPECT_TRUE(at::equal(gumbel_softmax(logits(), 1.0, false, -1, false, first),
                        gumbel_softmax(logits(), 1.0, false, -1, false, second)));
}

}  // namespace
}  // namespace torch_gumbel
