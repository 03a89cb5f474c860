// SPDX-License-Identifier: Apache-2.0
// The group of a cluster's blocks: its barrier, and shared memory of the others.
#pragma once

#include <source_location>

#include "../model/model.h"

namespace cooperative_groups {

class cluster_group {
  using Place = std::source_location;

 public:
  struct arrival_token {};

  static void sync(const Place& where = Place::current()) {
    barrier_arrive(where);
    barrier_wait(where);
  }
  static arrival_token barrier_arrive(const Place& where = Place::current()) {
    cuda_model::arrive_at_cluster(where);
    return {};
  }
  static void barrier_wait(const Place& where = Place::current()) {
    cuda_model::wait_at_cluster(where);
  }
  static void barrier_wait(arrival_token&&, const Place& where = Place::current()) {
    cuda_model::wait_at_cluster(where);
  }

  static unsigned block_rank() { return cuda_model::cluster_rank(); }
  static unsigned num_blocks() { return cuda_model::cluster_blocks(); }

  template <typename T>
  static T* map_shared_rank(T* address, int rank, const Place& where = Place::current()) {
    return static_cast<T*>(cuda_model::map_shared(address, rank, where));
  }
};

inline cluster_group this_cluster() { return {}; }

}  // namespace cooperative_groups
