// SPDX-License-Identifier: Apache-2.0
// Repeating: the same seed and key give the same bits, and a captured graph draws anew each time it
// is replayed, as eager calls would.
#include <ATen/Context.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch_gumbel/nn.h>
#include <torch_gumbel/torch_gumbel.h>

#include <functional>
#include <vector>

#include "gpu.h"
#include "ops/ops.h"

namespace torch_gumbel {
namespace {

using std::nullopt;

class GpuRepeats : public Gpu {};
class GpuGraph : public Gpu {};

using Draw = std::function<at::Tensor()>;

/// One row per warp, several to a warp, and one shared by blocks in two launches.
const std::vector<std::vector<int64_t>> kShapes = {{64, 1000}, {500, 10}, {1, 100000}};

std::vector<at::Tensor> eager(const Draw& draw, uint64_t seed, int count) {
  at::manual_seed(seed);
  std::vector<at::Tensor> drawn;
  for (int i = 0; i < count; ++i) drawn.push_back(draw().cpu());
  return drawn;
}

TEST_F(GpuRepeats, ASeedGivesTheSameDrawsAgain) {
  for (const auto& shape : kShapes) {
    const at::Tensor logits = on_gpu(some_logits(shape));
    for (const bool hard : {false, true}) {
      const Draw draw = [&] { return gumbel_softmax(logits, 0.7, hard); };
      const auto first = eager(draw, 7, 3), again = eager(draw, 7, 3);
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(again[i], first[i])) << i;
      EXPECT_FALSE(same_bits(first[0], first[1]));
      EXPECT_FALSE(same_bits(first[0], eager(draw, 8, 1)[0]));
    }
  }
}

TEST_F(GpuRepeats, AKeyGivesTheSameSoftBitsAndGradientsAgain) {
  const at::Tensor tau = at::scalar_tensor(0.7, at::kDouble);
  for (const auto& shape : kShapes) {
    const at::Tensor x = on_gpu(some_logits(shape)), grad = x.flip(-1);
    const auto soft = [&] { return gumbel_softmax(x, 0.7, false, -1, false, nullopt, key(3)); };
    const auto backward = [&] {
      return ops::hard_backward().call(grad, x, tau, key(3), 1, true, nullopt, nullopt);
    };
    const at::Tensor y = soft();
    const auto [at_logits, at_tau] = backward();
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(same_bits(soft(), y));
      const auto [logits_again, tau_again] = backward();
      EXPECT_TRUE(same_bits(logits_again, at_logits));
      EXPECT_TRUE(same_bits(tau_again, at_tau));
    }
  }
}

/// Captures a draw into `graph`. The tensor is what every replay writes.
at::Tensor capture(at::cuda::CUDAGraph& graph, const Draw& draw) {
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
  cudaDeviceSynchronize();
  draw();
  cudaDeviceSynchronize();
  graph.capture_begin();
  at::Tensor result = draw();
  graph.capture_end();
  return result;
}

at::Tensor replay(at::cuda::CUDAGraph& graph, const at::Tensor& result) {
  graph.replay();
  cudaDeviceSynchronize();
  return result.cpu();
}

TEST_F(GpuGraph, EveryReplayDrawsWhatAnEagerCallWould) {
  for (const auto& shape : kShapes) {
    const at::Tensor logits = on_gpu(some_logits(shape));
    for (const bool hard : {false, true}) {
      const Draw draw = [&] { return gumbel_softmax(logits, 0.7, hard); };
      at::cuda::CUDAGraph graph;
      const at::Tensor result = capture(graph, draw);
      const auto wanted = eager(draw, 7, 4);
      at::manual_seed(7);
      for (int i = 0; i < 4; ++i) EXPECT_TRUE(same_bits(replay(graph, result), wanted[i])) << i;
      for (int i = 1; i < 4; ++i) EXPECT_FALSE(same_bits(wanted[i], wanted[i - 1])) << i;
    }
  }
}

TEST_F(GpuGraph, AnIndexIsDrawnAnew) {
  const at::Tensor logits = at::zeros({32, 50000}, at::kCUDA);
  at::cuda::CUDAGraph graph;
  const at::Tensor index = capture(graph, [&] { return gumbel_argmax(logits); });
  const at::Tensor first = replay(graph, index), second = replay(graph, index);
  EXPECT_FALSE(at::equal(first, second));
  EXPECT_TRUE(second.ge(0).logical_and(second.lt(50000)).all().item<bool>());
}

TEST_F(GpuGraph, AKeyOnTheDeviceIsReadByEveryReplay) {
  const at::Tensor logits = some_logits({64, 1000}), there = on_gpu(logits);
  const at::Tensor held = on_gpu(key(3));
  at::cuda::CUDAGraph graph;
  const at::Tensor hard =
      capture(graph, [&] { return gumbel_softmax(there, 0.7, true, -1, false, nullopt, held); });
  for (const uint64_t seed : {3, 4, 3}) {
    held.copy_(key(seed));
    const at::Tensor wanted = gumbel_softmax(logits, 0.7, true, -1, false, nullopt, key(seed));
    EXPECT_TRUE(same_bits(replay(graph, hard), wanted)) << seed;
  }
}

TEST_F(GpuGraph, FollowsTheTemperatureOfAModule) {
  const at::Tensor logits = some_logits({64, 10}), there = on_gpu(logits), held = on_gpu(key(3));
  nn::GumbelSoftmax classes;
  nn::GumbelSigmoid gates;
  classes->to(at::kCUDA), gates->to(at::kCUDA);
  at::cuda::CUDAGraph of_classes, of_gates;
  const at::Tensor y = capture(of_classes, [&] { return classes->forward(there, {}, held); });
  const at::Tensor z = capture(of_gates, [&] { return gates->forward(there, {}, held); });
  for (const double tau : {0.5, 2.0}) {
    classes->set_tau(tau), gates->set_tau(tau);
    EXPECT_TRUE(at::allclose(replay(of_classes, y),
                             gumbel_softmax(logits, tau, false, -1, false, nullopt, key(3)), 1e-5));
    EXPECT_TRUE(at::allclose(replay(of_gates, z),
                             gumbel_sigmoid(logits, tau, false, 0.5, false, nullopt, key(3)),
                             1e-5));
  }
}

/// Nodes of the graph that a draw is captured as: its launches.
size_t launches(const Draw& draw) {
  at::cuda::CUDAGraph graph(/*keep_graph=*/true);
  capture(graph, draw);
  size_t count = 0;
  EXPECT_EQ(cudaGraphGetNodes(graph.raw_cuda_graph(), nullptr, &count), cudaSuccess);
  return count;
}

TEST_F(GpuGraph, ACallIsOneLaunchAndASharedRowTwo) {
  const at::Tensor tau = at::scalar_tensor(0.7, at::kDouble);
  for (const auto& shape : kShapes) {
    const at::Tensor x = on_gpu(some_logits(shape));
    const size_t forward = shape[0] == 1 ? 2 : 1;
    for (const bool hard : {false, true})
      EXPECT_EQ(launches([&] { return gumbel_softmax(x, 0.7, hard, -1, false, nullopt, key(3)); }),
                forward);
    EXPECT_EQ(
        launches([&] {
          return std::get<0>(ops::hard_soft().call(x, tau, key(3), 1, nullopt, nullopt, nullopt));
        }),
        forward);
    EXPECT_EQ(launches([&] { return gumbel_argmax(x, -1, false, nullopt, 1.0, nullopt, key(3)); }),
              forward);
    for (const bool tau_grad : {false, true}) {
      const size_t backward = forward + (forward == 2 && tau_grad ? 1 : 0);
      EXPECT_EQ(launches([&] {
                  return std::get<0>(
                      ops::hard_backward().call(x, x, tau, key(3), 1, tau_grad, nullopt, nullopt));
                }),
                backward);
      EXPECT_EQ(launches([&] {
                  return std::get<0>(ops::backward().call(x, x, tau, 1, nullopt, tau_grad));
                }),
                backward);
    }
    EXPECT_EQ(launches([&] { return gumbel_softmax(x, 0.7); }), forward + 1) << "with a drawn key";
  }
}

TEST_F(GpuGraph, ForwardAndBackwardInOne) {
  const at::Tensor tau = at::scalar_tensor(0.7, at::kDouble);
  for (const auto& shape : kShapes) {
    const at::Tensor x = on_gpu(some_logits(shape)), grad = x.flip(-1);
    const auto step = [&] {
      return std::get<0>(
          ops::hard_backward().call(grad, x, tau, key(3), 1, true, nullopt, nullopt));
    };
    at::cuda::CUDAGraph graph;
    const at::Tensor result = capture(graph, step);
    EXPECT_TRUE(same_bits(replay(graph, result), step()));
    EXPECT_TRUE(same_bits(replay(graph, result), step()));
  }
}

}  // namespace
}  // namespace torch_gumbel
