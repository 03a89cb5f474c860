// SPDX-License-Identifier: Apache-2.0
// A categorical VAE in C++: images of random bars pass through 6 discrete codes of 8 classes each.
// Prints the falling loss, saves the model, and shows that the reloaded one gives the same images.
#include <torch/torch.h>
#include <torch_gumbel/torch_gumbel.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

namespace {

using torch::Tensor;
using torch_gumbel::GumbelSoftmaxFuncOptions;

constexpr int64_t kSide = 8, kPixels = kSide * kSide, kCodes = 6, kClasses = 8, kHidden = 128;
constexpr int64_t kBatch = 256, kSteps = 400;

/// [rows, kPixels]: every row and every column of an image is lit with probability 1/8.
Tensor bars(int64_t rows) {
  const Tensor across = torch::rand({rows, kSide, 1}) < 0.125;
  const Tensor down = torch::rand({rows, 1, kSide}) < 0.125;
  return (across | down).to(torch::kFloat).flatten(1);
}

struct VaeImpl : torch::nn::Module {
  VaeImpl() {
    encoder = register_module(
        "encoder", torch::nn::Sequential(torch::nn::Linear(kPixels, kHidden), torch::nn::ReLU(),
                                         torch::nn::Linear(kHidden, kCodes * kClasses)));
    decoder = register_module(
        "decoder", torch::nn::Sequential(torch::nn::Linear(kCodes * kClasses, kHidden),
                                         torch::nn::ReLU(), torch::nn::Linear(kHidden, kPixels)));
  }

  /// [rows, kPixels] -> [rows, kCodes, kClasses]
  Tensor code_logits(const Tensor& images) {
    return encoder->forward(images).view({-1, kCodes, kClasses});
  }

  /// Pixel logits of the images that the sampled codes stand for.
  Tensor decode(const Tensor& logits, const GumbelSoftmaxFuncOptions& options) {
    return decoder->forward(torch_gumbel::gumbel_softmax(logits, options).flatten(1));
  }

  torch::nn::Sequential encoder{nullptr}, decoder{nullptr};
};
TORCH_MODULE(Vae);

/// The negative ELBO per image, in nats: reconstruction, and KL to the uniform code.
Tensor negative_elbo(Vae& model, const Tensor& images, double tau) {
  const Tensor logits = model->code_logits(images);
  const Tensor pixels = model->decode(logits, GumbelSoftmaxFuncOptions().tau(tau));
  const Tensor log_q = logits.log_softmax(-1);
  const Tensor kl = (log_q.exp() * (log_q + std::log(double(kClasses)))).sum();
  const Tensor reconstruction =
      torch::binary_cross_entropy_with_logits(pixels, images, {}, {}, at::Reduction::Sum);
  return (reconstruction + kl) / images.size(0);
}

double train(Vae& model) {
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(3e-3));
  double first = 0, average = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const double tau = std::max(0.5, std::exp(-2.0 * step / kSteps));
    optimizer.zero_grad();
    const Tensor loss = negative_elbo(model, bars(kBatch), tau);
    loss.backward();
    optimizer.step();
    const double now = loss.item<double>();
    average = step == 0 ? now : 0.95 * average + 0.05 * now;
    if (step == 0) first = now;
    if (step % 50 == 0 || step + 1 == kSteps)
      std::printf("step %3lld  tau %.2f  negative ELBO %6.2f\n", (long long)step, tau, average);
  }
  return average / first;
}

/// The images that the codes of one key stand for.
Tensor reconstruct(Vae& model, const Tensor& images) {
  const torch::NoGradGuard guard;
  const auto options = GumbelSoftmaxFuncOptions().hard(true).key(torch_gumbel::key(2016));
  return model->decode(model->code_logits(images), options).sigmoid();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "categorical_vae.pt";
  torch::manual_seed(1);
  Vae model;
  const double ratio = train(model);

  torch::save(model, path);
  Vae reloaded;
  torch::load(reloaded, path);
  const Tensor images = bars(1000);
  const Tensor shown = reconstruct(model, images);
  const bool same = torch::equal(shown, reconstruct(reloaded, images));
  const double right = ((shown > 0.5) == (images > 0.5)).to(torch::kFloat).mean().item<double>();

  std::printf("pixels that hard codes restore: %.1f %%\n", 100 * right);
  std::printf("saved to %s; reloaded: %s\n", path.c_str(),
              same ? "the same images" : "OTHER images");
  return same && ratio < 0.7 ? 0 : 1;
}
