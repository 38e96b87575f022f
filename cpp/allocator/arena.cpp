#include "allocator/arena.h"

#include <algorithm>
#include <new>
#include <utility>

namespace vlt {
namespace {

// Addresses, not memory: far more than a workspace ever needs, so that growth never moves.
constexpr uint64_t kReservation = uint64_t{1} << 38;

// Growth steps: one huge page, so that the kernel can back the block with them.
constexpr uint64_t kStep = uint64_t{2} << 20;

}  // namespace

std::byte* Arena::acquire(uint64_t bytes) {
  if (bytes > memory_.committed_bytes()) {
    grow(bytes);
  } else {
    shrink_if_idle(bytes);
  }
  return memory_.data();
}

void Arena::reserve(uint64_t bytes) {
  if (bytes > memory_.committed_bytes()) grow(bytes);
  floor_ = std::max(floor_, bytes);
}

void Arena::grow(uint64_t bytes) {
  small_requests_ = 0;
  const uint64_t whole_steps = (bytes + kStep - 1) / kStep * kStep;
  if (limit_ == 0 || whole_steps <= limit_) bytes = whole_steps;
  if (bytes > memory_.reserved_bytes()) {
    VirtualMemory larger;
    try {
      larger = VirtualMemory(std::max(bytes, kReservation));
    } catch (const std::bad_alloc&) {
      // Where addresses are limited (ulimit -v), take no more than needed and move on growth.
      larger = VirtualMemory(bytes);
    }
    larger.commit(bytes);
    memory_ = std::move(larger);
  } else {
    memory_.commit(bytes);
  }
  ++stats_.system_allocations;
  stats_.held_bytes = memory_.committed_bytes();
  stats_.peak_held_bytes = std::max(stats_.peak_held_bytes, stats_.held_bytes);
}

void Arena::shrink_if_idle(uint64_t bytes) {
  if (bytes >= memory_.committed_bytes() / 2 || memory_.committed_bytes() <= kStep) {
    small_requests_ = 0;
    return;
  }
  largest_small_request_ = small_requests_ == 0 ? bytes : std::max(largest_small_request_, bytes);
  if (++small_requests_ < kPatience) return;
  small_requests_ = 0;
  const uint64_t before = memory_.committed_bytes();
  memory_.commit(std::max(largest_small_request_, floor_));
  stats_.held_bytes = memory_.committed_bytes();
  if (stats_.held_bytes < before) ++stats_.releases;
}

}  // namespace vlt
