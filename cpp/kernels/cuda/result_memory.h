// Device memory for callers' results. Freeing memory waits for the whole device, since work in any
// stream may still use it; so what is given back is kept until there is enough to be worth it.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/cuda/device_scope.h"

namespace vlt::cuda {

class ResultMemory {
 public:
  explicit ResultMemory(int device) : device_(device) {}
  ~ResultMemory() { free_retired(); }
  ResultMemory(const ResultMemory&) = delete;
  ResultMemory& operator=(const ResultMemory&) = delete;

  // Null where the device has none left.
  void* allocate(uint64_t bytes) {
    const DeviceScope scope(device_);
    const std::lock_guard lock(mutex_);
    void* memory = try_allocate(bytes);
    if (!memory && !retired_.empty()) {
      free_retired();
      memory = try_allocate(bytes);
    }
    if (memory) sizes_[memory] = held(bytes);
    return memory;
  }

  // Never waits, unless much has been given back since it last did.
  void release(void* memory) {
    const std::lock_guard lock(mutex_);
    const auto size = sizes_.find(memory);
    if (size == sizes_.end()) return;
    retired_.push_back(memory);
    retired_bytes_ += size->second;
    sizes_.erase(size);
    if (retired_bytes_ > kMostRetired || retired_.size() > kMostBlocks) free_retired();
  }

 private:
  static constexpr uint64_t kMostRetired = uint64_t{64} << 20;
  static constexpr size_t kMostBlocks = 256;

  // What the driver takes for it: large allocations come in blocks.
  static uint64_t held(uint64_t bytes) {
    constexpr uint64_t kBlock = uint64_t{2} << 20;
    return bytes <= kBlock / 2 ? bytes : (bytes + kBlock - 1) / kBlock * kBlock;
  }

  static void* try_allocate(uint64_t bytes) {
    void* memory = nullptr;
    const cudaError_t result = cudaMalloc(&memory, bytes);
    if (result == cudaSuccess) return memory;
    cudaGetLastError();  // told by the null, not by a later launch
    if (result != cudaErrorMemoryAllocation) check(result, "cudaMalloc");
    return nullptr;
  }

  void free_retired() {
    for (void* memory : retired_) cudaFree(memory);
    retired_.clear();
    retired_bytes_ = 0;
  }

  const int device_;
  std::mutex mutex_;
  std::map<void*, uint64_t> sizes_;
  std::vector<void*> retired_;
  uint64_t retired_bytes_ = 0;
};

}  // namespace vlt::cuda
