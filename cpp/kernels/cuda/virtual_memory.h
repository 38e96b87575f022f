// Device memory behind fixed addresses: a range is reserved once and backed by memory as needed, so
// that a workspace grows and shrinks without moving and recorded graphs stay valid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "kernels/cuda/driver.h"

namespace vlt::cuda {

class VirtualMemory {
 public:
  explicit VirtualMemory(int device);

  uint64_t granularity() const { return granularity_; }
  std::byte* reserve(uint64_t bytes);
  // [from, to) of a reservation, in whole steps of the granularity; false where there is no memory.
  bool commit(std::byte* base, uint64_t from, uint64_t to);
  // The device must be done with the memory.
  void decommit(std::byte* base, uint64_t from, uint64_t to) noexcept;
  void unreserve(std::byte* base, uint64_t bytes) noexcept;

 private:
  const int device_;
  uint64_t granularity_ = 0;
  // Mapped pieces by address. A piece can only be unmapped as a whole, so each is one step.
  std::map<CUdeviceptr, CUmemGenericAllocationHandle> pieces_;
};

}  // namespace vlt::cuda
