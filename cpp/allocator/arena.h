// The workspace's memory: one block that grows without moving, and shrinks again after a spike.
//
//   need ▲      spike
//        │      ┌─┐                  held follows need up at once, and down only when the last
//   held │──────┘ └┄┄┄┄┄┄┄┄┐         kPatience requests all needed less than half of it
//        │ ▁▂▁▂▁   ▁▂▁▂▁▂▁▂└────
//        └──────────────────────▶ requests
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/virtual_memory.h"

namespace vlt {

struct ArenaStats {
  uint64_t held_bytes = 0;
  uint64_t peak_held_bytes = 0;
  uint64_t system_allocations = 0;
  uint64_t releases = 0;
};

class Arena {
 public:
  // limit: the most bytes to hold, 0 for no limit. Requests must not exceed it.
  explicit Arena(uint64_t limit = 0) : limit_(limit) {}

  // A block of at least `bytes`, aligned to a page, valid until the next call; what it holds is
  // undefined. Throws std::bad_alloc and keeps what it held.
  std::byte* acquire(uint64_t bytes);

  // Grows to `bytes` now and never holds less again.
  void reserve(uint64_t bytes);

  const ArenaStats& stats() const { return stats_; }

  // Memory is held in multiples of this: one page.
  static uint64_t granularity() { return VirtualMemory::page_bytes(); }

  // Requests in a row that must need less than half before memory goes back.
  static constexpr int kPatience = 16;

 private:
  void grow(uint64_t bytes);
  void shrink_if_idle(uint64_t bytes);

  const uint64_t limit_;
  uint64_t floor_ = 0;
  VirtualMemory memory_;
  ArenaStats stats_;
  int small_requests_ = 0;
  uint64_t largest_small_request_ = 0;
};

}  // namespace vlt
