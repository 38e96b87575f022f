// What follows from the tile of the sm_90a product: sizes, the places in a block's shared memory,
// and the order in which the block's tiles and their stages go through them.
//
//   shared memory, from a multiple of 1024 on
//   ┌─────────────────────────┬───────────────────────┬────────────┬───────────────────────┐
//   │ stages ×                │ groups ×              │ groups ×   │ stages × full, empty  │
//   │   in     [rows, 64]     │   staging [rows, 64]  │   bias     │ groups ×              │
//   │   weight [cols, 64]     │     for each 64 cols  │   [cols]   │   ready, written      │
//   └─────────────────────────┴───────────────────────┴────────────┴───────────────────────┘
#pragma once

#include "kernels/cuda/gemm.h"

namespace vlt::cuda::hopper {

constexpr int kDepth = 64;      // columns of K in a stage: one swizzled row of 128 bytes
constexpr int kRowBytes = 128;  // of an operand in a stage
constexpr int kGroupThreads = 128;
constexpr int kMaxSharedBytes = 232448;  // 227 KiB, what a block of sm_90 can have

// Sizes that follow from a tile.
template <int rows, int cols, int cluster = 1>
struct Shape {
  static constexpr int kRows = rows;
  static constexpr int kCols = cols;
  // Blocks that share the weights of their tiles, which lie one below the other. Each brings its
  // part to all.
  static constexpr int kCluster = cluster;

  // Multiplying warpgroups, and blocks that can share a multiprocessor. Of the small tiles a block
  // often has only one: it takes half of the registers and no more stages than K fills, so that the
  // next kernel's blocks find room beside it.
  static constexpr int kGroups = rows == 64 ? 1 : 2;
  static constexpr int kBlocks = 3 - kGroups;
  static constexpr int kThreads = (1 + kGroups) * kGroupThreads;

  static constexpr int kInBytes = rows * kRowBytes;
  static constexpr int kPartCols = cols / cluster;  // of a weight tile
  static constexpr int kPartBytes = kPartCols * kRowBytes;
  static constexpr int kStageBytes = kInBytes + cols * kRowBytes;
  // Columns of a box of results: as many as divide the tile.
  static constexpr int kBoxCols = cols % 64 == 0 ? 64 : 32;
  static constexpr int kBoxes = cols / kBoxCols;
  static constexpr int kBoxBytes = rows * kBoxCols * 2;
  static constexpr int kStagingBytes = kBoxes * kBoxBytes;
  static constexpr int kBiasBytes = cols * 4;

  static constexpr int kAlignment = 1024;
  static constexpr int kBarrierBytes = 512;
  static constexpr int kFixedBytes =
      kAlignment + kGroups * (kStagingBytes + kBiasBytes) + kBarrierBytes;
  static constexpr int kStages = (kMaxSharedBytes - kFixedBytes) / kStageBytes;  // at most
  static_assert(kStages >= 3 && (2 * kStages + 2 * kGroups) * 8 <= kBarrierBytes);
  static_assert(kInBytes % 1024 == 0 && kStageBytes % 1024 == 0 && kBoxBytes % 1024 == 0);
  static_assert(cols % cluster == 0 && kPartBytes % 1024 == 0);
};

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

struct Parameters {
  const float* bias;        // [N], padded
  const int32_t* num_rows;  // in device memory, or null
  int32_t max_rows;
  int32_t num_biases;    // N, rounded up to the 8 columns that may be stored
  int32_t tiles_across;  // ceil(N / cols)
  int32_t num_depths;    // ceil(K / 64)
  int32_t num_stages;
  Activation activation;
  bool has_residual;

  __device__ int rows() const { return num_rows == nullptr ? max_rows : *num_rows; }  // M
};

// Constant, so that it costs nothing, but of small tiles.
template <typename S>
__host__ __device__ int num_stages(const Parameters& p) {
  return S::kGroups == 1 ? p.num_stages : S::kStages;
}

template <typename S>
struct SharedMemory {
  uint32_t base;
  int stages;
  __device__ uint32_t in(int stage) const { return base + stage * S::kStageBytes; }
  __device__ uint32_t weight(int stage) const { return in(stage) + S::kInBytes; }
  __device__ uint32_t staging(int group) const { return in(stages) + group * S::kStagingBytes; }
  __device__ uint32_t bias(int group) const { return staging(S::kGroups) + group * S::kBiasBytes; }
  __device__ uint32_t full(int stage) const { return bias(S::kGroups) + 8 * stage; }
  __device__ uint32_t empty(int stage) const { return full(stages) + 8 * stage; }
  __device__ uint32_t ready(int group) const { return empty(stages) + 8 * group; }
  __device__ uint32_t written(int group) const { return ready(S::kGroups) + 8 * group; }
};

// A place in the ring: the stage, and the parity of how often the ring was gone round.
struct RingPosition {
  int stages;
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

// The tiles of one block; those of a cluster's blocks differ in the row alone. Neighbours in time
// share rows of `in`, which are thus read from device memory once; the weights fit the L2 cache.
template <typename S>
struct TileSequence {
  int first, step, tiles_across;
  int rank;  // in the cluster
  __device__ explicit TileSequence(int tiles_across)
      : first(static_cast<int>(blockIdx.x) / S::kCluster),
        step(static_cast<int>(gridDim.x) / S::kCluster),
        tiles_across(tiles_across),
        rank(static_cast<int>(blockIdx.x) % S::kCluster) {}
  // At least one: the first tile lies in the room for rows, and is computed whether M reaches it or
  // not, so that nothing has to wait for M.
  __device__ int count(const Parameters& p) const {
    const int total = ceil_div(p.rows(), S::kRows * S::kCluster) * tiles_across;
    return first < total ? (total - first - 1) / step + 1 : 1;
  }
  __device__ int column(int i) const { return (first + i * step) % tiles_across * S::kCols; }
  __device__ int row(int i) const {
    return ((first + i * step) / tiles_across * S::kCluster + rank) * S::kRows;
  }
};

}  // namespace vlt::cuda::hopper
