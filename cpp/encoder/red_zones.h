// A debugging aid: a zone behind every activation that no operation may touch.
//
//   │ … rows of an activation … │ red zone │ next activation …
//
// The zone behind an operation's output is filled before the operation and looked at after it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "encoder/observed_operations.h"

namespace vlt {

// What ActivationPlan adds to each activation when zones are wanted: one cache line.
inline constexpr uint64_t kRedZoneBytes = 64;

class RedZoneObserver final : public Observer {
 public:
  // Guards outputs inside [block, block + bytes), which leaves out the caller's arrays. The name
  // of the first operation caught is put into `culprit`, which workers share. Of workers that share an operation only one may observe it.
  RedZoneObserver(const std::byte* block, uint64_t bytes, std::atomic<const char*>& culprit)
      : begin_(block), end_(block + bytes), culprit_(culprit) {}
  void before(const Operation& operation) override;
  void after(const Operation& operation) override;

 private:
  std::byte* zone_of(const Matrix& out) const;  // null: not guarded

  const std::byte* const begin_;
  const std::byte* const end_;
  std::atomic<const char*>& culprit_;
};

}  // namespace vlt
