// SPDX-License-Identifier: Apache-2.0
// What ran: each process leaves a file in $TORCH_GUMBEL_MODEL_REPORT, and the last test adds them
// up.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "model/symbols.h"
#include "on_model.h"

namespace torch_gumbel::testing {
namespace {

struct Report {
  std::set<std::string> kernels;
  uint64_t cases = 0, launches = 0, threads = 0;
};

const char* folder() { return std::getenv("TORCH_GUMBEL_MODEL_REPORT"); }

class Writer : public ::testing::Environment {
 public:
  void TearDown() override {
    if (folder() == nullptr || tally().cases == 0) return;
    std::filesystem::create_directories(folder());
    std::ofstream file(std::filesystem::path(folder()) / std::to_string(getpid()));
    const cuda_model::Totals& all = cuda_model::totals();
    file << tally().cases << " " << all.launches << " " << all.threads << "\n";
    for (const std::string& kernel : tally().kernels) file << kernel << "\n";
  }
};

[[maybe_unused]] ::testing::Environment* const kWriter =
    ::testing::AddGlobalTestEnvironment(new Writer);

Report sum_of_reports() {
  Report sum;
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    std::ifstream file(entry.path());
    uint64_t cases = 0, launches = 0, threads = 0;
    file >> cases >> launches >> threads >> std::ws;
    sum.cases += cases, sum.launches += launches, sum.threads += threads;
    for (std::string kernel; std::getline(file, kernel);) sum.kernels.insert(kernel);
  }
  return sum;
}

TEST(Report, EveryKernelRan) {
  if (folder() == nullptr) GTEST_SKIP() << "run by CTest, after the other tests of the model";
  const Report sum = sum_of_reports();
  const std::vector<std::string> all =
      cuda_model::functions_with("torch_gumbel::cuda::", "_kernel");
  EXPECT_FALSE(all.empty());
  for (const std::string& kernel : all)
    EXPECT_TRUE(sum.kernels.contains(kernel)) << kernel << " never ran";
  std::cout << (kSmall ? "model, sanitized: " : "model: ") << sum.kernels.size() << " kernels, "
            << sum.cases << " shapes, " << sum.launches << " launches, " << sum.threads
            << " threads\n";
  for (const std::string& kernel : sum.kernels) std::cout << "  " << kernel << "\n";
}

}  // namespace
}  // namespace torch_gumbel::testing
