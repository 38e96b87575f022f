// How every kernel is launched: errors become exceptions, and a kernel may start while the one
// before it drains (programmatic dependent launch), because each begins with wait_for_previous().
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

#include "kernels/device_failure.h"

namespace vlt::cuda {

// A call of CUDA failed.
class CudaError : public DeviceFailure {
 public:
  CudaError(cudaError_t code, const char* what_failed)
      : DeviceFailure(code == cudaErrorMemoryAllocation,
                      std::string(what_failed) + ": " + cudaGetErrorString(code)) {}
};

inline void check(cudaError_t code, const char* what_failed) {
  if (code != cudaSuccess) throw CudaError(code, what_failed);
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
  int cluster = 1;          // blocks in x direction; sm_90 and later
};

// Raises the kernel's limit of dynamic shared memory; call it once for each kernel and device.
template <typename... Parameters>
void allow_shared_bytes(void (*kernel)(Parameters...), size_t bytes) {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute(shared memory)");
}

// Has a multiprocessor keep its largest division of shared memory, whatever a launch asks for: it
// could change that only when idle, and the next kernel is to be put in place before.
template <typename... Parameters>
void prefer_shared_memory(void (*kernel)(Parameters...)) {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared),
        "cudaFuncSetAttribute(division of shared memory)");
}

// `overlap`: the device can start the kernel before its predecessor ends (sm_90 and later).
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape, bool overlap,
            cudaStream_t stream, const Arguments&... arguments) {
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (overlap) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...),
        "cudaLaunchKernelEx");
}

// What a launch needs to know of the device it runs on.
struct DeviceTraits {
  int index = 0;
  int num_multiprocessors = 0;
  int capability = 0;           // 80, 90, …
  int max_shared_bytes = 0;     // dynamic, a block
  bool overlap = false;         // programmatic dependent launch
  bool hopper_kernels = false;  // TMA and wgmma of sm_90a; off when the older path is forced
};

}  // namespace vlt::cuda
