// The workspace's memory: one block that grows without moving, and shrinks again after a spike.
//
//   need ▲      spike
//        │      ┌─┐                  held follows need up at once, and down when the last
//   held │──────┘ └┄┄┄┄┄┄┄┄┐         kPatience requests could all have done with less than
//        │ ▁▂▁▂▁   ▁▂▁▂▁▂▁▂└────     1 / kSlack of it: then to the largest of them
//        └──────────────────────▶ requests
//
// Alternating short and long requests never shrink it: a long one is always among the last few.
// What is held is therefore at most kSlack times the largest of the last kPatience needs, plus the
// step in which memory is taken.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "allocator/memory_source.h"

namespace vlt {

struct ArenaStats {
  uint64_t held_bytes = 0;
  uint64_t peak_held_bytes = 0;
  uint64_t system_allocations = 0;  // times more memory was asked for
  uint64_t releases = 0;            // times memory was given back
};

class Arena {
 public:
  // limit: the most bytes to hold, 0 for no limit. Requests must not exceed it.
  explicit Arena(MemorySource& source, uint64_t limit = 0) : source_(source), limit_(limit) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // A block of at least `bytes`, aligned to the source's granularity, valid until the next call;
  // what it holds is undefined. Null when the source refuses: the arena then holds what it held, or
  // nothing where the block had to move to grow.
  std::byte* acquire(uint64_t bytes);

  // Grows to `bytes` now and never holds less again. False when the source refuses.
  bool reserve(uint64_t bytes);

  const ArenaStats& stats() const { return stats_; }
  uint64_t granularity() const { return source_.granularity(); }

  static constexpr int kPatience = 32;
  static constexpr double kSlack = 1.5;

 private:
  bool grow(uint64_t bytes);
  bool move_to(uint64_t bytes);
  void shrink_if_idle();
  uint64_t step(uint64_t bytes) const;
  uint64_t stepped(uint64_t bytes) const;
  void release_all() noexcept;
  void note_held(uint64_t bytes);

  MemorySource& source_;
  const uint64_t limit_;
  uint64_t floor_ = 0;
  std::byte* base_ = nullptr;
  uint64_t reserved_ = 0;
  uint64_t held_ = 0;
  ArenaStats stats_;
  std::array<uint64_t, kPatience> recent_{};  // the last requests, a ring
  uint64_t num_requests_ = 0;
};

}  // namespace vlt
