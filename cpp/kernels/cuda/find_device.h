// Whether a GPU can be used, and what kernels need to know of it.
#pragma once

#include <string>

#include "kernels/cuda/launch.h"

namespace vlt::cuda {

// Fills `device` and returns an empty string, or says what is missing: a driver, a newer driver, a
// GPU, one with this index, one new enough.
std::string find_device(int index, DeviceTraits& device);

}  // namespace vlt::cuda
