#include "kernels/cuda/virtual_memory.h"

#include "kernels/cuda/launch.h"

namespace vlt::cuda {
namespace {

CUmemAllocationProp properties_of(int device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  return properties;
}

CUdeviceptr address_of(const std::byte* base) { return reinterpret_cast<CUdeviceptr>(base); }

}  // namespace

VirtualMemory::VirtualMemory(int device) : device_(device) {
  const CUmemAllocationProp properties = properties_of(device);
  size_t step = 0;
  if (Driver::get().granularity(&step, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM) !=
      CUDA_SUCCESS)
    throw CudaError(cudaErrorNotSupported, "cuMemGetAllocationGranularity");
  granularity_ = step;
}

std::byte* VirtualMemory::reserve(uint64_t bytes) {
  CUdeviceptr base = 0;
  const CUresult result = Driver::get().address_reserve(&base, bytes, 0, 0, 0);
  return result == CUDA_SUCCESS ? reinterpret_cast<std::byte*>(base) : nullptr;
}

bool VirtualMemory::commit(std::byte* base, uint64_t from, uint64_t to) {
  const Driver& driver = Driver::get();
  const CUmemAllocationProp properties = properties_of(device_);
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  for (uint64_t at = from; at < to; at += granularity_) {
    CUmemGenericAllocationHandle handle = 0;
    bool mapped = driver.create(&handle, granularity_, &properties, 0) == CUDA_SUCCESS;
    if (mapped && driver.map(address_of(base) + at, granularity_, 0, handle, 0) != CUDA_SUCCESS) {
      driver.release(handle);
      mapped = false;
    }
    if (!mapped) {
      decommit(base, from, at);
      return false;
    }
    pieces_[address_of(base) + at] = handle;
  }
  if (driver.set_access(address_of(base) + from, to - from, &access, 1) == CUDA_SUCCESS)
    return true;
  decommit(base, from, to);
  return false;
}

void VirtualMemory::decommit(std::byte* base, uint64_t from, uint64_t to) noexcept {
  const Driver& driver = Driver::get();
  const auto first = pieces_.lower_bound(address_of(base) + from);
  const auto end = pieces_.lower_bound(address_of(base) + to);
  for (auto piece = first; piece != end; ++piece) {
    driver.unmap(piece->first, granularity_);
    driver.release(piece->second);
  }
  pieces_.erase(first, end);
}

void VirtualMemory::unreserve(std::byte* base, uint64_t bytes) noexcept {
  decommit(base, 0, bytes);
  Driver::get().address_free(address_of(base), bytes);
}

}  // namespace vlt::cuda
