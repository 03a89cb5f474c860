// SPDX-License-Identifier: Apache-2.0
// Runs an AOTInductor package as a C++ server would: aoti_runner PACKAGE INPUTS OUTPUTS, the last
// two files of pickled lists of tensors. The package names our ops only as strings.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

namespace {

std::vector<char> read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const char* path, const std::vector<char>& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<int64_t>(bytes.size()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fputs("usage: aoti_runner PACKAGE INPUTS OUTPUTS\n", stderr), 2;
  const c10::InferenceMode guard;
  torch::inductor::AOTIModelPackageLoader loader(argv[1]);
  const c10::IValue pickled = torch::pickle_load(read_file(argv[2]));
  std::vector<torch::Tensor> inputs;
  for (const c10::IValue& input : pickled.toListRef()) inputs.push_back(input.toTensor());
  torch::manual_seed(7);
  std::vector<c10::IValue> outputs;
  for (torch::Tensor& output : loader.run(inputs)) outputs.emplace_back(std::move(output));
  write_file(argv[3], torch::pickle_save(c10::ivalue::Tuple::create(std::move(outputs))));
  return 0;
}
