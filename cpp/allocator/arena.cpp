#include "allocator/arena.h"

#include <algorithm>
#include <utility>

namespace vlt {
namespace {

// Addresses, not memory: far more than a workspace ever needs, so that growth never moves.
constexpr uint64_t kReservation = uint64_t{1} << 38;

// Large blocks grow by huge pages; small ones by little, so that small needs stay small.
constexpr uint64_t kSmallStep = uint64_t{64} << 10;
constexpr uint64_t kLargeStep = uint64_t{2} << 20;
constexpr uint64_t kLargeBlock = uint64_t{8} << 20;

uint64_t round_up(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }

}  // namespace

Arena::~Arena() { release_all(); }

std::byte* Arena::acquire(uint64_t bytes) {
  bytes = std::max<uint64_t>(bytes, 1);
  recent_[num_requests_++ % kPatience] = bytes;
  if (bytes <= held_) shrink_if_idle();
  if (bytes > held_ && !grow(bytes)) return nullptr;
  return base_;
}

bool Arena::reserve(uint64_t bytes) {
  if (bytes > held_ && !grow(bytes)) return false;
  floor_ = std::max(floor_, bytes);
  return true;
}

uint64_t Arena::step(uint64_t bytes) const {
  return std::max(bytes >= kLargeBlock ? kLargeStep : kSmallStep, source_.granularity());
}

// What to hold for `bytes`: whole steps, unless the limit is nearer.
uint64_t Arena::stepped(uint64_t bytes) const {
  const uint64_t whole = round_up(bytes, step(bytes));
  return limit_ == 0 || whole <= limit_ ? whole : round_up(bytes, source_.granularity());
}

bool Arena::grow(uint64_t bytes) {
  const uint64_t target = stepped(std::max(bytes, floor_));
  const bool in_place = source_.grows_in_place() && base_ && target <= reserved_;
  if (in_place ? !source_.commit(base_, held_, target) : !move_to(target)) return false;
  ++stats_.system_allocations;
  note_held(target);
  return true;
}

// A block of another size in place of the present one. Nobody needs its contents, so it goes first:
// the two are never held at once.
bool Arena::move_to(uint64_t bytes) {
  release_all();
  uint64_t reservation = bytes;
  if (source_.grows_in_place()) {
    reservation = std::max(bytes, kReservation);
    base_ = source_.reserve(reservation);
    if (!base_) reservation = bytes;  // addresses are limited (ulimit -v): no more than needed
  }
  if (!base_) base_ = source_.reserve(reservation);
  if (!base_) return false;
  reserved_ = reservation;
  if (source_.commit(base_, 0, bytes)) return true;
  release_all();
  return false;
}

void Arena::shrink_if_idle() {
  const uint64_t need = *std::max_element(recent_.begin(), recent_.end());
  if (static_cast<double>(need) * kSlack + static_cast<double>(step(need)) >=
      static_cast<double>(held_))
    return;
  const uint64_t target = stepped(std::max(need, floor_));
  if (target >= held_) return;
  const bool done =
      source_.grows_in_place() ? source_.decommit(base_, target, held_) : move_to(target);
  if (!done) return;
  if (!source_.grows_in_place()) ++stats_.system_allocations;
  ++stats_.releases;
  note_held(target);
}

void Arena::release_all() noexcept {
  if (base_) source_.unreserve(base_, reserved_);
  base_ = nullptr;
  reserved_ = 0;
  note_held(0);
}

void Arena::note_held(uint64_t bytes) {
  held_ = bytes;
  stats_.held_bytes = bytes;
  stats_.peak_held_bytes = std::max(stats_.peak_held_bytes, bytes);
}

}  // namespace vlt
