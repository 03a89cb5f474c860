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

std::string text_of(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

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

void Block::begin_launch(const std::string& kernel, dim3 grid, dim3 block) {
  kernel_name_ = kernel;
  gridDim = grid;
  blockDim = block;
  threads_.resize(block.x * block.y * block.z);
  ordering_.first_block = ordering_.block + 1;
}

void Block::prepare() {
  const auto entry = [] { cuda_model::block().run_current(); };
  for (unsigned i = 0; i < size(); ++i) {
    Thread& thread = threads_[i];
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    thread.number = i;
    thread.meetings = 0;
    thread.state = State::kReady;
    thread.fiber.prepare(stacks_.at(i), entry);
  }
  warps_.assign((size() + kWarp - 1) / kWarp, {});
  waiting_ = 0;
  failure_.clear();
  ++ordering_.block;
  ++ordering_.barrier;
  if (!kChecked) return;
  ordering_.seen.assign(size() * kWarp, 0);
  for (unsigned i = 0; i < size(); ++i) ordering_.of(i)[i % kWarp] = 1;
}

void Block::run_current() {
  kernel_.call(kernel_.address, arguments_);
  current_->state = State::kEnded;
  current_->fiber.suspend(true);
}

std::vector<unsigned> Block::order() {
  return shuffled(settings().order, settings().seed + ordering_.block, size());
}

bool Block::run_ready(const std::vector<unsigned>& order) {
  bool any = false;
  for (const unsigned i : order) {
    if (threads_[i].state != State::kReady) continue;
    any = true;
    current_ = &threads_[i];
    threadIdx = current_->index;
    current_->fiber.resume();
    current_ = nullptr;
    if (!failure_.empty()) throw Fault(failure_);
  }
  return any;
}

void Block::run(dim3 index, const Kernel& kernel, void* const* arguments) {
  blockIdx = {index.x, index.y, index.z};
  kernel_ = kernel;
  arguments_ = arguments;
  prepare();
  const std::vector<unsigned> sequence = order();
  while (run_ready(sequence)) {
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
  if (++waiting_ < size()) {
    me.state = State::kAtBarrier;
    me.fiber.suspend();
  } else {
    release_barrier();
  }
  return {last_yes_, size()};
}

void Block::release_barrier() {
  waiting_ = 0;
  last_yes_ = 0;
  for (Thread& thread : threads_) {
    last_yes_ += thread.yes;
    thread.state = State::kReady;
  }
  ++ordering_.barrier;
}

/// One that waits at another barrier will never come to this one.
void Block::check_barrier_place(const Thread& arriving) {
  if (waiting_ == 0) first_at_barrier_ = arriving.number;
  const Thread& other = threads_[first_at_barrier_];
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
    gathering = warps_[first / kWarp].back();
    warps_[first / kWarp].pop_back();
    conclude(meeting, first);
  } else {
    me.fiber.suspend();
  }
  return me.result;
}

/// The one of this mask, begun with this thread if there is none.
Block::Gathering& Block::gathering_of(const Meeting& meeting, unsigned first, unsigned me) {
  std::vector<Gathering>& all = warps_[first / kWarp];
  for (Gathering& one : all) {
    if (one.mask != meeting.mask) continue;
    const Thread& other = threads_[first + one.lane];
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
  const Thread& other = threads_[number];
  if (other.state == State::kEnded) refuse("has ended");
  if (other.state == State::kAtBarrier) refuse("waits at the barrier of " + text_of(other.where));
  if (other.state == State::kInWarp && (other.meeting->mask >> me & 1) != 0)
    refuse("gives mask " + hexadecimal(other.meeting->mask) + " at " + text_of(other.where));
}

void Block::conclude(const Meeting& meeting, unsigned first) {
  uint64_t folded = 0;
  bool any = false;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((meeting.mask >> lane & 1) == 0) continue;
    Thread& thread = threads_[first + lane];
    const Meeting& theirs = *thread.meeting;
    if (theirs.source >= 0) thread.result = threads_[first + theirs.source].meeting->value;
    if (meeting.fold != nullptr) folded = any ? meeting.fold(folded, theirs.value) : theirs.value;
    any = true;
  }
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((meeting.mask >> lane & 1) == 0) continue;
    if (meeting.fold != nullptr) threads_[first + lane].result = folded;
    threads_[first + lane].state = State::kReady;
  }
  const bool orders_memory = meeting.source < 0 && meeting.fold == nullptr;
  if (kChecked && orders_memory) order_lanes(meeting.mask, first);
}

/// Each lane has now seen what any of them had, and what all of them did.
void Block::order_lanes(unsigned mask, unsigned first) {
  uint32_t joined[kWarp] = {};
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned other = 0; (mask >> lane & 1) != 0 && other < kWarp; ++other)
      joined[other] = std::max(joined[other], ordering_.of(first + lane)[other]);
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    uint32_t* seen = ordering_.of(first + lane);
    std::copy(joined, joined + kWarp, seen);
    ++seen[lane];  // what comes now is later
  }
}

std::string Block::describe_stuck() const {
  for (const Thread& waiting : threads_) {
    if (waiting.state == State::kEnded) continue;
    const bool at_barrier = waiting.state == State::kAtBarrier;
    const std::string what = at_barrier ? "a barrier" : waiting.meeting->name;
    const unsigned first = at_barrier ? 0 : waiting.number / kWarp * kWarp;
    const unsigned count = at_barrier ? size() : std::min(kWarp, size() - first);
    for (unsigned i = first; i < first + count; ++i) {
      const Thread& missing = threads_[i];
      const bool named = at_barrier || (waiting.meeting->mask >> (i - first) & 1) != 0;
      if (!named || missing.state == waiting.state) continue;
      const bool ended = missing.state == State::kEnded;
      return name_of(waiting) + ", at " + text_of(waiting.where) + ": " + what + " that thread " +
             text_of(missing.index) + " does not reach: it " +
             (ended ? "has ended" : "waits at " + text_of(missing.where));
    }
  }
  return "kernel " + kernel_name_ + ": threads wait for each other";
}

int lane() { return static_cast<int>(block().current()->number % kWarp); }

Count barrier(bool yes, const std::source_location& where) {
  return block().wait_at_barrier(yes, where);
}

uint64_t meet(const Meeting& meeting) { return block().meet_in_warp(meeting); }

}  // namespace cuda_model
