// The allocator's view of a device's memory.
#pragma once

#include "allocator/memory_source.h"
#include "kernels/device.h"

namespace vlt {

class DeviceMemorySource final : public MemorySource {
 public:
  explicit DeviceMemorySource(DeviceStream& stream) : stream_(stream) {}
  uint64_t granularity() const override { return stream_.granularity(); }
  bool grows_in_place() const override { return true; }
  std::byte* reserve(uint64_t bytes) override { return stream_.reserve(bytes); }
  bool commit(std::byte* base, uint64_t from, uint64_t to) override {
    return stream_.commit(base, from, to);
  }
  bool decommit(std::byte* base, uint64_t from, uint64_t to) override {
    return stream_.decommit(base, from, to);
  }
  void unreserve(std::byte* base, uint64_t bytes) noexcept override {
    stream_.unreserve(base, bytes);
  }

 private:
  DeviceStream& stream_;
};

}  // namespace vlt
