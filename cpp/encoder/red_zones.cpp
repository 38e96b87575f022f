#include "encoder/red_zones.h"

#include <algorithm>
#include <cstring>

namespace vlt {
namespace {

constexpr int kPattern = 0xa5;

}  // namespace

std::byte* RedZoneObserver::zone_of(const Matrix& out) const {
  auto* data = static_cast<std::byte*>(out.data);
  if (data < begin_ || data >= end_) return nullptr;
  return reinterpret_cast<std::byte*>(out.floats() + out.rows * out.stride);
}

void RedZoneObserver::before(const Operation& operation) {
  if (std::byte* zone = zone_of(operation.out)) std::memset(zone, kPattern, kRedZoneBytes);
}

void RedZoneObserver::after(const Operation& operation) {
  const std::byte* zone = zone_of(operation.out);
  if (!zone) return;
  const bool intact =
      std::all_of(zone, zone + kRedZoneBytes, [](std::byte b) { return b == std::byte{kPattern}; });
  const char* nobody = nullptr;
  if (!intact) culprit_.compare_exchange_strong(nobody, operation.name);
}

}  // namespace vlt
