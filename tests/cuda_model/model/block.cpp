// SPDX-License-Identifier: Apache-2.0
#include "block.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "banks.h"
#include "memory.h"
#include "shuffled.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_model {
namespace {

bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

std::string hexadecimal(unsigned mask) {
  char text[11];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

}  // namespace

std::string text_of(const std::source_location& where) {
  const char* slash = std::strrchr(where.file_name(), '/');
  return std::string(slash == nullptr ? where.file_name() : slash + 1) + ":" +
         std::to_string(where.line());
}

Block the_block;

std::string Block::name_of(const Thread& thread) const {
  return "kernel " + kernel_name_ + ", block " + text_of(blockIdx) + ", thread " +
         text_of(thread.index);
}

void Block::fail(const std::string& what, const std::string& place) {
  failure_ = name_of(*current_) + ", at " + place + ": " + what;
  current_->fiber.suspend(true);
  __builtin_unreachable();
}

void Block::begin_launch(const std::string& kernel, dim3 grid, dim3 block, unsigned cluster) {
  kernel_name_ = kernel;
  gridDim = grid;
  blockDim = block;
  size_ = block.x * block.y * block.z;
  threads_.resize(size_t{size_} * cluster);
  ordering_.first_block = last_block_ + 1;
}

void Block::prepare(const std::vector<dim3>& indices) {
  const auto entry = [] { cuda_model::block().run_current(); };
  for (unsigned i = 0; i < threads_.size(); ++i) {
    Thread& thread = threads_[i];
    const unsigned number = i % size_;
    thread.index = {number % blockDim.x, number / blockDim.x % blockDim.y,
                    number / blockDim.x / blockDim.y};
    thread.number = number;
    thread.meetings = thread.arrived = thread.passed = 0;
    thread.state = State::kReady;
    thread.fiber.prepare(stacks_.at(i), entry);
  }
  members_.assign(indices.size(), {});
  for (unsigned i = 0; i < indices.size(); ++i) {
    members_[i].index = {indices[i].x, indices[i].y, indices[i].z};
    members_[i].block = ++last_block_;
    members_[i].barrier = ++last_barrier_;
    members_[i].warps.assign((size_ + kWarp - 1) / kWarp, {});
  }
  arrived_ = cluster_barriers_ = 0;
  failure_.clear();
  if (!kChecked) return;
  ordering_.seen.assign(threads_.size() * kWarp, 0);
  for (const Thread& thread : threads_)
    ordering_.seen[static_cast<size_t>(&thread - threads_.data()) * kWarp + thread.number % kWarp] =
        1;
}

/// Makes a block of the cluster the one that runs.
void Block::enter(unsigned rank) {
  first_ = rank * size_;
  const Member& member = members_[rank];
  blockIdx = member.index;
  ordering_.block = member.block;
  ordering_.barrier = member.barrier;
  enter_block_memory(rank);
}

void Block::run_current() {
  kernel_.call(kernel_.address, arguments_);
  end_thread();
  current_->fiber.suspend(true);
}

bool Block::run_ready(const std::vector<unsigned>& order) {
  bool any = false;
  for (const unsigned i : order) {
    if (at(i).state != State::kReady) continue;
    any = true;
    current_ = &at(i);
    threadIdx = current_->index;
    current_->fiber.resume();
    current_ = nullptr;
    if (!failure_.empty()) throw Fault(failure_);
  }
  return any;
}

/// Runs each block until none of its threads is ready. Whether any was.
bool Block::run_all() {
  const Settings& set = settings();
  const uint64_t seed = set.seed + last_block_;
  const std::vector<unsigned> sequence = shuffled(set.order, seed, size_);
  bool any = false;
  for (const unsigned rank : shuffled(set.order, seed, blocks())) {
    enter(rank);
    while (run_ready(sequence)) any = true;
  }
  return any;
}

void Block::run(const std::vector<dim3>& indices, const Kernel& kernel, void* const* arguments) {
  kernel_ = kernel;
  arguments_ = arguments;
  prepare(indices);
  while (run_all()) {
  }
  const auto ended = [](const Thread& t) { return t.state == State::kEnded; };
  if (!std::all_of(threads_.begin(), threads_.end(), ended)) throw Fault(describe_stuck());
  if (settings().count_banks) banks().add_up();
}

Count Block::wait_at_barrier(bool yes, const std::source_location& where) {
  Thread& me = *current_;
  me.yes = yes;
  me.where = where;
  check_barrier_place(me);
  if (++mine().waiting < size()) {
    me.state = State::kAtBarrier;
    me.fiber.suspend();
  } else {
    release_barrier();
  }
  return {mine().last_yes, size()};
}

void Block::release_barrier() {
  mine().waiting = 0;
  mine().last_yes = 0;
  for (unsigned i = 0; i < size(); ++i) {
    mine().last_yes += at(i).yes;
    at(i).state = State::kReady;
  }
  ordering_.barrier = mine().barrier = ++last_barrier_;
}

/// One that waits at another barrier will never come to this one.
void Block::check_barrier_place(const Thread& arriving) {
  if (mine().waiting == 0) mine().first_at_barrier = arriving.number;
  const Thread& other = at(mine().first_at_barrier);
  if (same_place(other.where, arriving.where)) return;
  fail(
      "a barrier, while " + text_of(other.index) + " waits at another one, " + text_of(other.where),
      text_of(arriving.where));
}

uint64_t Block::meet_in_warp(const Meeting& meeting) {
  Thread& me = *current_;
  me.meeting = &meeting;
  ++me.meetings;
  me.where = meeting.where;
  me.state = State::kInWarp;
  const unsigned first = me.number / kWarp * kWarp, lane = me.number - first;
  check_mask(meeting, lane);
  Gathering& gathering = gathering_of(meeting, first, lane);
  gathering.arrived |= 1u << lane;
  if (gathering.arrived == meeting.mask) {
    std::vector<Gathering>& all = mine().warps[first / kWarp];
    gathering = all.back();
    all.pop_back();
    conclude(meeting, first);
  } else {
    me.fiber.suspend();
  }
  return me.result;
}

/// The one of this mask, begun with this thread if there is none.
Gathering& Block::gathering_of(const Meeting& meeting, unsigned first, unsigned me) {
  std::vector<Gathering>& all = mine().warps[first / kWarp];
  for (Gathering& one : all) {
    if (one.mask != meeting.mask) continue;
    const Thread& other = at(first + one.lane);
    if (!same_place(other.where, meeting.where))
      refuse_meeting(meeting, "names lane " + std::to_string(one.lane) + ", which is at " +
                                  text_of(other.where));
    return one;
  }
  for (unsigned lane = 0; lane < kWarp; ++lane)
    if ((meeting.mask >> lane & 1) != 0 && lane != me) check_may_come(meeting, me, lane);
  all.push_back({meeting.mask, 0, me});
  return all.back();
}

void Block::refuse_meeting(const Meeting& meeting, const std::string& what) {
  fail(std::string(meeting.name) + " with mask " + hexadecimal(meeting.mask) + " " + what,
       text_of(meeting.where));
}

void Block::check_mask(const Meeting& meeting, unsigned me) {
  if ((meeting.mask >> me & 1) == 0)
    refuse_meeting(meeting, "by lane " + std::to_string(me) + ", which it leaves out");
  if (meeting.source >= 0 && (meeting.mask >> meeting.source & 1) == 0)
    refuse_meeting(meeting,
                   "reads lane " + std::to_string(meeting.source) + ", which it leaves out");
}

/// Fails if a named lane, which is not at this meeting yet, cannot come.
void Block::check_may_come(const Meeting& mine, unsigned me, unsigned lane) {
  const auto refuse = [&](const std::string& why) {
    refuse_meeting(mine, "names lane " + std::to_string(lane) + ", which " + why);
  };
  const unsigned number = current_->number - me + lane;
  if (number >= size()) refuse("the block does not have");
  const Thread& other = at(number);
  if (other.state == State::kEnded) refuse("has ended");
  if (other.state == State::kAtBarrier || other.state == State::kAtCluster)
    refuse("waits at the barrier of " + text_of(other.where));
  if (other.state == State::kInWarp && (other.meeting->mask >> me & 1) != 0)
    refuse("gives mask " + hexadecimal(other.meeting->mask) + " at " + text_of(other.where));
}

void Block::conclude(const Meeting& meeting, unsigned first) {
  uint64_t folded = 0;
  bool any = false;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((meeting.mask >> lane & 1) == 0) continue;
    Thread& thread = at(first + lane);
    const Meeting& theirs = *thread.meeting;
    if (theirs.source >= 0) thread.result = at(first + theirs.source).meeting->value;
    if (meeting.fold != nullptr) folded = any ? meeting.fold(folded, theirs.value) : theirs.value;
    any = true;
  }
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((meeting.mask >> lane & 1) == 0) continue;
    if (meeting.fold != nullptr) at(first + lane).result = folded;
    at(first + lane).state = State::kReady;
  }
  const bool orders_memory = meeting.source < 0 && meeting.fold == nullptr;
  if (kChecked && orders_memory) order_lanes(meeting.mask, first);
}

/// Each lane has now seen what any of them had, and what all of them did.
void Block::order_lanes(unsigned mask, unsigned first) {
  uint32_t joined[kWarp] = {};
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned other = 0; (mask >> lane & 1) != 0 && other < kWarp; ++other)
      joined[other] = std::max(joined[other], seen_by(first + lane)[other]);
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    uint32_t* seen = seen_by(first + lane);
    std::copy(joined, joined + kWarp, seen);
    ++seen[lane];  // what comes now is later
  }
}

int lane() { return static_cast<int>(block().current()->number % kWarp); }

Count barrier(bool yes, const std::source_location& where) {
  return block().wait_at_barrier(yes, where);
}

uint64_t meet(const Meeting& meeting) { return block().meet_in_warp(meeting); }

}  // namespace cuda_model
