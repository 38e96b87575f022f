// Linear layers on the GPU: out = activation(in · weightᵀ + bias), or + residual in place of an
// activation. Sums over K run in one fixed order whatever M is and whichever tile is chosen, so a
// row's bits do not depend on the other rows.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/enums.h"

namespace vlt::cuda {

struct GemmArguments {
  DType dtype = DType::kFloat16;  // of in, weight, residual and out
  const void* in = nullptr;       // [M, K]
  int64_t in_stride = 0;          // elements; rows are 16-byte aligned
  const void* weight = nullptr;   // [N, K]
  int64_t weight_stride = 0;      // elements; rows are 16-byte aligned
  const float* bias = nullptr;  // [N], padded with zeros to a multiple of 256; aligned to 16 bytes
  const void* residual = nullptr;  // [M, N] with out's stride, or null; may be `out` itself
  void* out = nullptr;             // [M, N]
  int64_t out_stride = 0;  // elements; rows are 16-byte aligned, unless out_dtype is not dtype
  DType out_dtype = DType::kFloat16;              // dtype, or float32 (not with the Hopper kernel)
  Activation activation = Activation::kIdentity;  // kIdentity where there is a residual
  int32_t max_rows = 0;                           // rows that in and out have room for
  const int32_t* num_rows = nullptr;  // M in device memory, at most max_rows; null: max_rows
  int32_t outputs = 0;                // N
  int32_t inputs = 0;                 // K
};
// Rows from M to max_rows may be computed and written (from whatever they hold); rows from max_rows
// on are never written. Nor are columns from N on, except by gemm_hopper, which stores whole 16
// bytes: columns from N to the next multiple of 8 may be written (rows have room for them).

// Any device from sm_80 on, float16 and bfloat16: cp.async and mma.sync.
void gemm_mma(const GemmArguments& arguments, const DeviceTraits& device, cudaStream_t stream);

// float32, any device: plain fused multiply-adds.
void gemm_fp32(const GemmArguments& arguments, const DeviceTraits& device, cudaStream_t stream);

// sm_90a, float16 and bfloat16: TMA and wgmma. tile: an index below num_hopper_tiles(), or -1 for
// the one that choose_hopper_tile() picks.
void gemm_hopper(const GemmArguments& arguments, const DeviceTraits& device, cudaStream_t stream,
                 int tile = -1);

struct HopperTile {
  int rows;
  int cols;
  int cluster;  // how many of them, one below the other, share what is read of the weights
};
int num_hopper_tiles();
HopperTile hopper_tile(int index);
// Pure arithmetic on shapes, tested without a GPU.
int choose_hopper_tile(int64_t rows, int64_t outputs, int64_t inputs, bool activates,
                       int num_multiprocessors);

}  // namespace vlt::cuda
