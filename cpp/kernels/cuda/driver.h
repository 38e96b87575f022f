// Functions of the CUDA driver that the runtime has no equivalent of. They are looked up when first
// needed, so the library loads on machines without a driver.
#pragma once

#include <cuda.h>

namespace vlt::cuda {

struct Driver {
  decltype(&cuMemAddressReserve) address_reserve = nullptr;
  decltype(&cuMemAddressFree) address_free = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuTensorMapEncodeTiled) encode_tensor_map = nullptr;

  // Throws CudaError where the driver lacks one.
  static const Driver& get();
};

}  // namespace vlt::cuda
