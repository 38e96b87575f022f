// What both plain matrix products share: which tile a shape gets, and how a block fills a stage of
// its shared memory.
#pragma once

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/ptx_sm80.cuh"

namespace vlt::cuda {

// ---- Choosing a tile

struct TileShape {
  int rows;
  int cols;
  float speed;  // products a second when blocks fill the device, relative to the fastest tile
};

constexpr int64_t tile_count(const TileShape& tile, int64_t rows, int64_t outputs) {
  return ((rows + tile.rows - 1) / tile.rows) * ((outputs + tile.cols - 1) / tile.cols);
}

// The busiest multiprocessor decides: it computes its share of the tiles one after another, or
// several at once, each the slower. Half a tile more stands for what nothing overlaps: filling the
// pipeline of its first tile and storing its last.
template <int kTiles>
int choose_tile(const TileShape (&tiles)[kTiles], int64_t rows, int64_t outputs,
                int num_multiprocessors) {
  int best = 0;
  double best_time = 0;
  for (int i = 0; i < kTiles; ++i) {
    const TileShape& tile = tiles[i];
    const int64_t share =
        (tile_count(tile, rows, outputs) + num_multiprocessors - 1) / num_multiprocessors;
    const double time = (static_cast<double>(share) + 0.5) * tile.rows * tile.cols / tile.speed;
    if (i == 0 || time < best_time) {
      best = i;
      best_time = time;
    }
  }
  return best;
}

// ---- Filling a stage

// Where a 16-byte chunk of a row lies in an operand's part of a stage. Rows are 4 or 8 chunks
// long, without gaps. Any 8 consecutive rows have the same chunk in 8 different groups of four
// banks: a row's parity (4 chunks) and the exclusive-or see to it.
template <int kChunks>
__device__ uint32_t swizzled(int row, int chunk) {
  static_assert(kChunks == 4 || kChunks == 8);
  const int key = kChunks == 8 ? row & 7 : (row >> 1) & 3;
  return static_cast<uint32_t>(row * kChunks + (chunk ^ key)) * 16;
}

// One thread's part in copying [kRows, kDepth] of a row-major matrix into each stage: always the
// same chunk, of rows kStep apart. Columns from `depth` on become zeros, to the element. Rows from
// `rows` on become copies of the last: what is computed from them is never stored, and a row of the
// product depends on no other row.
template <int kRows, int kDepth, int kElementBytes, int kThreads>
class StageCopier {
 public:
  static constexpr int kChunkElements = 16 / kElementBytes;
  static constexpr int kChunks = kDepth / kChunkElements;
  static constexpr int kStep = kThreads / kChunks;
  static constexpr int kCount = kRows / kStep;
  static_assert(kThreads % kChunks == 0 && kRows % kStep == 0);
  static_assert(kStep % 8 == 0, "the rows of a thread share their swizzle");

  // The tile's rows begin at `first`, below `rows`.
  __device__ StageCopier(const void* matrix, int64_t stride, int first, int rows, int depth)
      : base_(static_cast<const char*>(matrix) + first * stride * kElementBytes),
        begin_(static_cast<int>(threadIdx.x) % kChunks * kChunkElements),
        depth_(depth) {
    const int row = static_cast<int>(threadIdx.x) / kChunks;
    shared_offset_ = swizzled<kChunks>(row, static_cast<int>(threadIdx.x) % kChunks);
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      row_offsets_[i] = static_cast<uint32_t>(min(row + i * kStep, rows - 1 - first)) *
                        static_cast<uint32_t>(stride) * kElementBytes;
  }

  // Columns k … k + kDepth to this address.
  __device__ void copy(uint32_t shared, int k) const {
    const int left = depth_ - (k + begin_);
    const int bytes = max(min(left, kChunkElements), 0) * kElementBytes;
    // where nothing is copied, the address must still be the matrix's
    const char* source = base_ + (left > 0 ? k + begin_ : 0) * kElementBytes;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      copy16_prefix_async(shared + shared_offset_ + i * kStep * kDepth * kElementBytes,
                          source + row_offsets_[i], bytes);
  }

 private:
  const char* base_;
  uint32_t row_offsets_[kCount];  // bytes
  uint32_t shared_offset_;
  int begin_;
  int depth_;
};

// M, which an earlier kernel may have written.
__device__ inline int read_num_rows(const GemmArguments& arguments) {
  return arguments.num_rows != nullptr ? *arguments.num_rows : arguments.max_rows;
}

}  // namespace vlt::cuda
