// What follows from the tile of the sm_90a product: sizes, the places in a block's shared memory,
// and the order in which the block's tiles and their stages go through them.
//
//   shared memory, from a multiple of 1024 on
//   ┌─────────────────────────┬───────────────────────┬────────────┬───────────────────────┐
//   │ stages ×                │ 2 groups ×            │ 2 groups × │ stages × full, empty  │
//   │   in     [rows, 64]     │   staging [rows, 64]  │   bias     │ 2 groups ×            │
//   │   weight [cols, 64]     │     for each 64 cols  │   [cols]   │   ready, written      │
//   └─────────────────────────┴───────────────────────┴────────────┴───────────────────────┘
#pragma once

#include "kernels/cuda/gemm.h"

namespace vlt::cuda::hopper {

constexpr int kDepth = 64;      // columns of K in a stage: one swizzled row of 128 bytes
constexpr int kRowBytes = 128;  // of an operand in a stage
constexpr int kGroupThreads = 128;
constexpr int kThreads = 3 * kGroupThreads;
constexpr int kMaxSharedBytes = 232448;  // 227 KiB, what a block of sm_90 can have

// Sizes that follow from a tile.
template <int rows, int cols>
struct Shape {
  static constexpr int kRows = rows;
  static constexpr int kCols = cols;

  static constexpr int kInBytes = rows * kRowBytes;
  static constexpr int kStageBytes = kInBytes + cols * kRowBytes;
  static constexpr int kBoxCols = cols < 64 ? cols : 64;
  static constexpr int kBoxes = cols / kBoxCols;
  static constexpr int kBoxBytes = rows * kBoxCols * 2;
  static constexpr int kStagingBytes = kBoxes * kBoxBytes;
  static constexpr int kBiasBytes = cols * 4;

  static constexpr int kAlignment = 1024;
  static constexpr int kBarrierBytes = 512;
  static constexpr int kFixedBytes = kAlignment + 2 * (kStagingBytes + kBiasBytes) + kBarrierBytes;
  static constexpr int kStages = (kMaxSharedBytes - kFixedBytes) / kStageBytes;
  static constexpr int kSharedBytes = kFixedBytes + kStages * kStageBytes;
  static_assert(kStages >= 3 && (2 * kStages + 4) * 8 <= kBarrierBytes);
  static_assert(kInBytes % 1024 == 0 && kStageBytes % 1024 == 0 && kBoxBytes % 1024 == 0);
};

struct Parameters {
  const float* bias;        // [N], padded
  const int32_t* num_rows;  // in device memory, or null
  int32_t max_rows;
  int32_t tiles_across;  // ceil(N / cols)
  int32_t num_depths;    // ceil(K / 64)
  Activation activation;
  bool has_residual;
};

template <typename S>
struct SharedMemory {
  uint32_t base;
  __device__ uint32_t in(int stage) const { return base + stage * S::kStageBytes; }
  __device__ uint32_t weight(int stage) const { return in(stage) + S::kInBytes; }
  __device__ uint32_t staging(int group) const { return in(S::kStages) + group * S::kStagingBytes; }
  __device__ uint32_t bias(int group) const { return staging(2) + group * S::kBiasBytes; }
  __device__ uint32_t full(int stage) const { return bias(2) + 8 * stage; }
  __device__ uint32_t empty(int stage) const { return full(S::kStages) + 8 * stage; }
  __device__ uint32_t ready(int group) const { return empty(S::kStages) + 8 * group; }
  __device__ uint32_t written(int group) const { return ready(2) + 8 * group; }
};

// A place in the ring: the stage, and the parity of how often the ring was gone round.
template <int stages>
struct RingPosition {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
  __device__ void advance(int steps) {
    const int end = stage + steps;
    parity ^= (end / stages) & 1;
    stage = end % stages;
  }
};

// The tiles of one block. Neighbours in time share rows of `in`, which are thus read from device
// memory once; the weights fit the L2 cache.
template <typename S>
struct TileSequence {
  int first, step, count, tiles_across;
  __device__ TileSequence(int rows, int tiles_across)
      : first(static_cast<int>(blockIdx.x)),
        step(static_cast<int>(gridDim.x)),
        tiles_across(tiles_across) {
    const int total = (rows + S::kRows - 1) / S::kRows * tiles_across;
    count = first < total ? (total - first - 1) / step + 1 : 0;
  }
  __device__ int column(int i) const { return (first + i * step) % tiles_across * S::kCols; }
  __device__ int row(int i) const { return (first + i * step) / tiles_across * S::kRows; }
};

}  // namespace vlt::cuda::hopper
