// SPDX-License-Identifier: Apache-2.0
// A categorical VAE in C++: images of random bars pass through 6 discrete codes of 8 classes each.
// Prints the falling loss, saves the model, and shows that the reloaded one gives the same images.
#include <torch/torch.h>
#include <torch_gumbel/nn.h>
#include <torch_gumbel/torch_gumbel.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

namespace {

using torch::Tensor;
using torch_gumbel::nn::EvalMode;
using torch_gumbel::nn::GumbelSoftmaxOptions;

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
    // Soft samples in training, the likeliest codes in evaluation.
    sample = register_module("sample", torch_gumbel::nn::GumbelSoftmax(
                                           GumbelSoftmaxOptions().eval_mode(EvalMode::kArgmax)));
    decoder = register_module(
        "decoder", torch::nn::Sequential(torch::nn::Linear(kCodes * kClasses, kHidden),
                                         torch::nn::ReLU(), torch::nn::Linear(kHidden, kPixels)));
  }

  /// [rows, kPixels] -> [rows, kCodes, kClasses]
  Tensor code_logits(const Tensor& images) {
    return encoder->forward(images).view({-1, kCodes, kClasses});
  }

  /// Pixel logits of the images that codes of these logits stand for.
  Tensor decode(const Tensor& logits) {
    return decoder->forward(sample->forward(logits).flatten(1));
  }

  torch::nn::Sequential encoder{nullptr}, decoder{nullptr};
  torch_gumbel::nn::GumbelSoftmax sample{nullptr};
};
TORCH_MODULE(Vae);

/// The negative ELBO per image, in nats: reconstruction, and KL to the uniform code.
Tensor negative_elbo(Vae& model, const Tensor& images) {
  const Tensor logits = model->code_logits(images);
  const Tensor log_likelihood = -torch::binary_cross_entropy_with_logits(
                                     model->decode(logits), images, {}, {}, at::Reduction::None)
                                     .sum(-1);
  return -torch_gumbel::categorical_elbo(log_likelihood, logits).mean();
}

double train(Vae& model) {
  torch::optim::Adam optimizer(model->parameters(), torch::optim::AdamOptions(3e-3));
  double first = 0, average = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const double tau = std::max(0.5, std::exp(-2.0 * step / kSteps));
    model->sample->set_tau(tau);
    optimizer.zero_grad();
    const Tensor loss = negative_elbo(model, bars(kBatch));
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

/// The images that the likeliest codes stand for.
Tensor reconstruct(Vae& model, const Tensor& images) {
  const torch::NoGradGuard guard;
  model->eval();
  return model->decode(model->code_logits(images)).sigmoid();
}

/// How many classes of each code are in use, [kCodes].
Tensor classes_in_use(Vae& model, const Tensor& images) {
  const torch::NoGradGuard guard;
  const Tensor logits = model->code_logits(images);
  const Tensor codes =
      torch_gumbel::gumbel_argmax(logits, -1, false, {}, 1.0, {}, torch_gumbel::key(1));
  return torch_gumbel::perplexity(torch::one_hot(codes, kClasses).to(torch::kFloat), -1,
                                  at::IntArrayRef{0});
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

  std::printf("pixels that hard codes restore: %.1f %%; classes in use: %.1f of %lld\n",
              100 * right, classes_in_use(model, images).mean().item<double>(),
              (long long)kClasses);
  std::printf("saved to %s; reloaded: %s\n", path.c_str(),
              same ? "the same images" : "OTHER images");
  return same && ratio < 0.7 ? 0 : 1;
}
