// Host memory that a device reads and writes directly; grows and never shrinks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace vlt::cuda {

class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  ~PinnedBuffer() { cudaFreeHost(memory_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  // At least `bytes`; what it held is lost where it has to grow, so the device must be done with it.
  std::byte* room_for(uint64_t bytes) {
    if (bytes <= bytes_) return memory_;
    const uint64_t target = std::max(bytes, 2 * bytes_);
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, target, cudaHostAllocPortable | cudaHostAllocMapped),
          "allocating pinned host memory");
    cudaFreeHost(memory_);
    memory_ = static_cast<std::byte*>(memory);
    bytes_ = target;
    return memory_;
  }

 private:
  std::byte* memory_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace vlt::cuda
