#include "kernels/cuda/driver.h"

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"

namespace vlt::cuda {
namespace {

template <typename Function>
void look_up(const char* name, Function& function) {
  constexpr unsigned kVersion = 12000;  // of the driver interface that cuda.h's names stand for
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result), name);
  if (result != cudaDriverEntryPointSuccess) throw CudaError(cudaErrorNotSupported, name);
  function = reinterpret_cast<Function>(found);
}

Driver look_up_all() {
  Driver driver;
  look_up("cuMemAddressReserve", driver.address_reserve);
  look_up("cuMemAddressFree", driver.address_free);
  look_up("cuMemCreate", driver.create);
  look_up("cuMemRelease", driver.release);
  look_up("cuMemMap", driver.map);
  look_up("cuMemUnmap", driver.unmap);
  look_up("cuMemSetAccess", driver.set_access);
  look_up("cuMemGetAllocationGranularity", driver.granularity);
  look_up("cuTensorMapEncodeTiled", driver.encode_tensor_map);
  return driver;
}

}  // namespace

const Driver& Driver::get() {
  static const Driver driver = look_up_all();
  return driver;
}

}  // namespace vlt::cuda
