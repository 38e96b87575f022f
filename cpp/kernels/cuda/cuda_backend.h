// An NVIDIA GPU as a backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace vlt::cuda {

// Null where the device cannot be used; `problem` then says why and what is needed. Sets no device
// as current. The environment variable VLT_CUDA_KERNELS=mma keeps a Hopper GPU to the kernels of
// older ones.
std::unique_ptr<DeviceBackend> make_cuda_backend(int device_index, DType compute_type,
                                                 std::string& problem);

// "80", "90a", …
std::vector<std::string> built_architectures();

}  // namespace vlt::cuda
