// SPDX-License-Identifier: Apache-2.0
// What a launch may ask for, and the blocks of one.
#include <utility>

#include "block.h"
#include "memory.h"
#include "shuffled.h"
#include "symbols.h"

namespace cuda_model {
namespace {

std::vector<Launch> recorded;
Totals all;

constexpr unsigned kMostThreads = 1024, kMostClusterBlocks = 8;
constexpr dim3 kMostBlock = {1024, 1024, 64};
constexpr dim3 kMostGrid = {0x7FFFFFFF, 65535, 65535};

std::string text_of(dim3 size) {
  return std::to_string(size.x) + " x " + std::to_string(size.y) + " x " + std::to_string(size.z);
}

bool within(dim3 size, dim3 most) {
  return size.x >= 1 && size.y >= 1 && size.z >= 1 && size.x <= most.x && size.y <= most.y &&
         size.z <= most.z;
}

void check_cluster(const std::string& kernel, dim3 grid, dim3 cluster) {
  const auto refuse = [&](const std::string& what) {
    throw Fault("kernel " + kernel + ", launch: a cluster of " + text_of(cluster) + " blocks" +
                what);
  };
  if (!within(cluster, {kMostClusterBlocks, 1, 1}))
    refuse(", at most " + text_of({kMostClusterBlocks, 1, 1}) + " here");
  if (grid.x % cluster.x != 0) refuse(" in a grid of " + text_of(grid));
}

void check_sizes(const std::string& kernel, dim3 grid, dim3 block, size_t shared) {
  const auto refuse = [&](const std::string& what) {
    throw Fault("kernel " + kernel + ", launch: " + what);
  };
  if (!within(grid, kMostGrid))
    refuse("a grid of " + text_of(grid) + " blocks, at most " + text_of(kMostGrid));
  if (!within(block, kMostBlock))
    refuse("a block of " + text_of(block) + " threads, at most " + text_of(kMostBlock));
  if (uint64_t{block.x} * block.y * block.z > kMostThreads)
    refuse("a block of " + text_of(block) + " threads, together at most " +
           std::to_string(kMostThreads));
  if (shared > kMostShared)
    refuse(std::to_string(shared) + " bytes of shared memory, at most " +
           std::to_string(kMostShared));
}

void check_arguments(const std::string& name, const Kernel& kernel, void* const* arguments,
                     size_t given) {
  const std::string who = "kernel " + name + ", launch: ";
  if (given != kernel.arguments)
    throw Fault(who + std::to_string(given) + " arguments for " + std::to_string(kernel.arguments) +
                " parameters");
  if (arguments == nullptr && kernel.arguments > 0) throw Fault(who + "no arguments");
  for (size_t i = 0; i < kernel.arguments; ++i)
    if (arguments[i] == nullptr) throw Fault(who + "argument " + std::to_string(i) + " is null");
}

dim3 index_of(uint64_t i, dim3 grid) {
  return {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
          static_cast<unsigned>(i / grid.x / grid.y)};
}

void run_blocks(const std::string& name, const Kernel& kernel, dim3 grid, dim3 size,
                void* const* arguments, unsigned cluster) {
  const uint64_t count = uint64_t{grid.x} * grid.y * grid.z;
  constexpr uint64_t kMost = uint64_t{1} << 24;
  if (count > kMost) throw Fault("kernel " + name + ": more blocks than the model can run");
  block().begin_launch(name, grid, size, cluster);
  const Settings& set = settings();
  const auto clusters = static_cast<unsigned>(count / cluster);
  std::vector<dim3> indices(cluster);
  for (const unsigned i : shuffled(set.order, set.seed, clusters)) {
    for (unsigned rank = 0; rank < cluster; ++rank)
      indices[rank] = index_of(uint64_t{i} * cluster + rank, grid);
    begin_cluster_memory(cluster);
    block().run(indices, kernel, arguments);
  }
  ++all.launches;
  all.blocks += count;
  all.threads += count * block().size();
}

}  // namespace

Settings& settings() {
  static Settings the_settings;
  return the_settings;
}

std::vector<Launch> take_launches() { return std::exchange(recorded, {}); }

const Totals& totals() { return all; }

void launch(const Kernel& kernel, dim3 grid, dim3 size, void** arguments, size_t given,
            size_t dynamic_shared, dim3 cluster) {
  if (kernel.address == nullptr) throw Fault("launch: the kernel is null");
  const std::string full = function_at(kernel.address), name = short_name(full);
  if (block().current() != nullptr) block().fail("a launch from a kernel", "its launch of " + name);
  const size_t fixed = static_shared_of(full);
  check_sizes(name, grid, size, fixed + dynamic_shared);
  check_cluster(name, grid, cluster);
  check_arguments(name, kernel, arguments, given);
  recorded.push_back({name, grid, size, dynamic_shared, cluster.x});
  if (!settings().run) return;
  begin_launch_memory(fixed, dynamic_shared, full);
  run_blocks(name, kernel, grid, size, arguments, cluster.x);
}

}  // namespace cuda_model
