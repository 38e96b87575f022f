// A batch's header brought to the device as a kernel's parameter, where nothing else has to be
// brought: sooner there than by the copy engine.
#pragma once

#include "kernels/cuda/batch.h"
#include "kernels/cuda/launch.h"

namespace vlt::cuda {

void store_header(const BatchHeader& header, BatchHeader* to, cudaStream_t stream);

}  // namespace vlt::cuda
