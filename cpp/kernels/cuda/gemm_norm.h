// A linear layer with the residual's sum and its norm in one kernel, for few rows.
#pragma once

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/rows.h"

namespace vlt::cuda {

// The same to the bit as gemm_hopper() and layernorm() of its result, which is not kept: the
// product's `out` is not written. On sm_90a, for what gemm_norm_hopper_serves() names.
bool gemm_norm_hopper_serves(const GemmArguments& product, const LayerNormArguments& norm);
void gemm_norm_hopper(const GemmArguments& product, const LayerNormArguments& norm,
                      const DeviceTraits& device, cudaStream_t stream);

// Pure arithmetic on shapes, tested without a GPU.
// Columns of a block, a cluster of which has all N: the narrowest there are. 0: there are none.
int norm_block_columns(int64_t outputs);
bool norming_along_pays(int64_t rows, int64_t outputs, int num_multiprocessors);

namespace hopper {

// Where the rows go.
struct NormedRows {
  Norm norm;
  void* rows;  // [M, N], aligned to 16 bytes
  int64_t stride;
  int32_t cols;
};

}  // namespace hopper
}  // namespace vlt::cuda
