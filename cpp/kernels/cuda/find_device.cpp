#include "kernels/cuda/find_device.h"

#include <cstdlib>
#include <cstring>

namespace vlt::cuda {
namespace {

constexpr int kOldestCapability = 80;
constexpr int kHopperCapability = 90;

// 13000 → "13.0"
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Why there are no devices at all; empty where there are.
std::string driver_problem(int& count) {
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result == cudaSuccess && count > 0) return "";
  cudaGetLastError();  // else the host process's next call would see it
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0)
    return "no NVIDIA driver was found (libcuda.so.1); vlt needs one for CUDA " +
           version_text(CUDART_VERSION / 1000 * 1000) + " or later";
  if (result == cudaErrorInsufficientDriver)
    return "the NVIDIA driver is for CUDA " + version_text(driver) + "; vlt needs one for CUDA " +
           version_text(CUDART_VERSION / 1000 * 1000) + " or later";
  if (result == cudaErrorNoDevice || result == cudaSuccess)
    return "the NVIDIA driver sees no GPU (is CUDA_VISIBLE_DEVICES set?)";
  if (result == cudaErrorInitializationError)
    return "CUDA does not start; after a fork it cannot if the parent had started it: start "
           "processes by spawn";
  return std::string("the NVIDIA driver does not start: ") + cudaGetErrorString(result);
}

bool older_kernels_forced() {
  const char* value = std::getenv("VLT_CUDA_KERNELS");
  return value && std::strcmp(value, "mma") == 0;
}

}  // namespace

std::string find_device(int index, DeviceTraits& device) {
  int count = 0;
  const std::string problem = driver_problem(count);
  if (!problem.empty()) return problem;
  if (index < 0 || index >= count)
    return "this machine has " + std::to_string(count) + " CUDA device" + (count == 1 ? "" : "s") +
           ", with indices from 0";
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, index), "cudaDeviceGetAttribute");
    return value;
  };
  device.index = index;
  device.capability = attribute(cudaDevAttrComputeCapabilityMajor) * 10 +
                      attribute(cudaDevAttrComputeCapabilityMinor);
  device.num_multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  device.max_shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  device.overlap = device.capability >= kHopperCapability;
  device.hopper_kernels = device.capability == kHopperCapability && !older_kernels_forced();
  if (device.capability < kOldestCapability)
    return "its compute capability is " + std::to_string(device.capability / 10) + "." +
           std::to_string(device.capability % 10) + "; vlt needs 8.0 (Ampere) or later";
  return "";
}

}  // namespace vlt::cuda
