// Descriptions of matrices in device memory for the copy engine of sm_90.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/enums.h"

namespace vlt::cuda {

// A row-major matrix [rows, cols] of 2-byte elements, `stride` elements from row to row (a multiple
// of 8; the base is 16-byte aligned), of which boxes [box_rows, box_cols] are copied. A box's rows
// are 32, 64 or 128 bytes, which is also how they are swizzled in shared memory. Reading outside
// the matrix gives zeros, writing there does nothing. Costs about a microsecond of the host; throws
// CudaError.
CUtensorMap make_tensor_map(DType dtype, const void* base, int64_t rows, int64_t cols,
                            int64_t stride, int box_rows, int box_cols);

}  // namespace vlt::cuda
