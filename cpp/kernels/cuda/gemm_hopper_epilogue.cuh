// What the sm_90a product does with a tile's sums: bias, residual or activation, rounding, and the
// results into the staging buffer in shared memory, from where the copy engine stores them.
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/gemm_hopper_layout.cuh"
#include "kernels/cuda/ptx_sm90.cuh"

namespace vlt::cuda::hopper {

__device__ inline float2 load_float2(uint32_t shared) {
  float2 pair;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(pair.x), "=f"(pair.y)
               : "r"(shared)
               : "memory");
  return pair;
}

// The inverse of load_matrices().
__device__ inline void store_matrices(uint32_t shared, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

// Adds bias and residual, activates, rounds, and puts the results into the staging buffer. A warp
// owns 16 rows of each block of 64; a lane gives the address of row lane % 16 in the first or (from
// lane 16 on) the second 8 of 16 columns. The swizzle moves these runs of 16 bytes by an exclusive
// or, so the runs 2j and 2j + 1 lie where the runs 0 and 1 do, exclusive or 2j. The residuals of a
// box, or of half a box where registers are few, are all read before the first result is written, so
// that their latencies overlap.
template <typename T, typename S, Activation activation, bool has_residual, int blocks>
__device__ void stage_results(const float (&sums)[blocks][S::kCols / 2], uint32_t staging,
                              uint32_t bias) {
  constexpr int row_bytes = S::kBoxCols * 2;
  constexpr int box_steps = S::kBoxCols / 16;
  constexpr int columns = S::kCols > 128 ? S::kBoxCols / 2 : S::kBoxCols;
  constexpr int steps = columns / 16;
  const int lane = threadIdx.x % 32;
  const int row = threadIdx.x / 32 % 4 * 16 + lane % 16;
  const int swizzle = row * row_bytes / 128 % (row_bytes / 16);
  const uint32_t lane_address = staging + row * row_bytes + ((lane / 16) ^ swizzle) * 16;
  const uint32_t lane_bias = bias + lane % 4 * 8;
#pragma unroll
  for (int piece = 0; piece < S::kCols / columns; ++piece) {
    // 16-column steps of the tile
    const int first = piece * steps;
    const auto address = [&](int step, int block) {
      return (lane_address ^ (step % box_steps * 32)) + step / box_steps * S::kBoxBytes +
             block * 64 * row_bytes;
    };
    uint32_t pairs[steps][blocks][4] = {};
    if constexpr (has_residual) {
#pragma unroll
      for (int j = 0; j < steps; ++j)
#pragma unroll
        for (int block = 0; block < blocks; ++block)
          load_matrices(pairs[j][block], address(first + j, block));
    }
#pragma unroll
    for (int j = 0; j < steps; ++j) {
      const int column = (first + j) * 16;
      const float2 lane_biases[2] = {load_float2(lane_bias + column * 4),
                                     load_float2(lane_bias + column * 4 + 32)};
#pragma unroll
      for (int block = 0; block < blocks; ++block) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          // pairs 0 and 1: rows r and r + 8 of the first 8 columns; 2 and 3: of the second
          uint32_t& pair = pairs[j][block][i];
          float low = sums[block][column / 2 + 2 * i] + lane_biases[i / 2].x;
          float high = sums[block][column / 2 + 2 * i + 1] + lane_biases[i / 2].y;
          if constexpr (has_residual) {
            const float2 residual = unpack_pair<T>(pair);
            low += residual.x;
            high += residual.y;
          }
          pair = pack_pair<T>(activate<T>(activation, low), activate<T>(activation, high));
        }
        store_matrices(address(first + j, block), pairs[j][block]);
      }
    }
  }
}

// The activations that a kernel has code for. Most models need only the first kind, and kernels for
// that alone stay small and keep everything in registers.
enum class Activations { kIdentityAndGelu, kOthers };

template <typename T, typename S, Activations activations, int blocks>
__device__ void stage_results(const Parameters& p, const float (&sums)[blocks][S::kCols / 2],
                              uint32_t staging, uint32_t bias) {
  if constexpr (activations == Activations::kIdentityAndGelu) {
    if (p.has_residual)
      stage_results<T, S, Activation::kIdentity, true>(sums, staging, bias);
    else if (p.activation == Activation::kGelu)
      stage_results<T, S, Activation::kGelu, false>(sums, staging, bias);
    else
      stage_results<T, S, Activation::kIdentity, false>(sums, staging, bias);
  } else if (p.activation == Activation::kRelu) {
    stage_results<T, S, Activation::kRelu, false>(sums, staging, bias);
  } else if (p.activation == Activation::kGeluTanh) {
    stage_results<T, S, Activation::kGeluTanh, false>(sums, staging, bias);
  } else if (p.activation == Activation::kSilu) {
    stage_results<T, S, Activation::kSilu, false>(sums, staging, bias);
  } else if (p.activation == Activation::kTanh) {
    stage_results<T, S, Activation::kTanh, false>(sums, staging, bias);
  } else if (p.activation == Activation::kLogRelu) {
    stage_results<T, S, Activation::kLogRelu, false>(sums, staging, bias);
  } else {
    stage_results<T, S, Activation::kSigmoid, false>(sums, staging, bias);
  }
}

}  // namespace vlt::cuda::hopper
