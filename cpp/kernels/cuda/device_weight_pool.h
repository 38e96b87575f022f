// Device memory for prepared weights, cut from large slabs.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/device_scope.h"

namespace vlt::cuda {

class DeviceWeightPool final : public WeightPool {
 public:
  explicit DeviceWeightPool(int device) : device_(device) {}

  // Aligned to 256 bytes. Throws CudaError.
  void* allocate(uint64_t bytes) override {
    const uint64_t needed = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (needed > left_) add_slab(needed > kSlab ? needed : kSlab);
    std::byte* result = next_;
    next_ += needed;
    left_ -= needed;
    return result;
  }
  uint64_t bytes() const override { return bytes_; }

 private:
  static constexpr uint64_t kAlignment = 256;
  static constexpr uint64_t kSlab = uint64_t{32} << 20;
  struct Free {
    void operator()(std::byte* memory) const { cudaFree(memory); }
  };

  void add_slab(uint64_t bytes) {
    const DeviceScope scope(device_);
    void* memory = nullptr;
    const cudaError_t result = cudaMalloc(&memory, bytes);
    if (result != cudaSuccess) cudaGetLastError();  // reported here, not by a later launch
    check(result, "device memory for the model's weights");
    slabs_.emplace_back(static_cast<std::byte*>(memory));
    next_ = slabs_.back().get();
    left_ = bytes;
    bytes_ += bytes;
  }

  const int device_;
  std::vector<std::unique_ptr<std::byte, Free>> slabs_;
  std::byte* next_ = nullptr;
  uint64_t left_ = 0;  // bytes of the last slab behind next_
  uint64_t bytes_ = 0;
};

}  // namespace vlt::cuda
