// out = activation(in · weightᵀ + bias) or in · weightᵀ + bias + residual in float32, by fused
// multiply-adds, on any device.
//
// Layout     in [M, K] and weight [N, K] stay k-contiguous in shared memory, so that cp.async fills
//            it; a thread reads four k of a row at a time.
// Mapping    A block owns a tile of out, a warp a part of it, a thread every fourth row and every
//            eighth column of that: a store of a warp fills sectors of 32 bytes.
// Memory     kStages stages of [kRows, 16] of in and [kCols, 16] of weight, swizzled; behind them
//            each thread's own kRows·kCols / kThreads sums.
// Roofline   2·M·N·K flops. An 8×8 tile of a thread reads 16 vectors for 256 multiply-adds.
// Numerics   Runs of 128 products, k ascending, then the runs in order: the same bits by every tile.
//            One running sum of 3072 products would err about four times as much.
// Reference  linear in reference/reference_backend.cpp
#include <iterator>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/gemm_tiles.cuh"

namespace vlt::cuda {
namespace {

constexpr int kDepth = 16;  // k of a stage
constexpr int kChunks = kDepth / 4;
constexpr int kRunStages = 128 / kDepth;

// rows, cols: of a thread. A warp is 4 threads down and 8 across.
template <int rows, int cols, int stages, int blocks>
struct Tile {
  static constexpr int kWarpsAcross = 2;
  static constexpr int kThreads = 128;
  static constexpr int kThreadRows = rows;
  static constexpr int kThreadCols = cols;
  static constexpr int kWarpRows = 4 * rows;
  static constexpr int kWarpCols = 8 * cols;
  static constexpr int kRows = 2 * kWarpRows;
  static constexpr int kCols = kWarpsAcross * kWarpCols;
  static constexpr int kStages = stages;
  static constexpr int kBlocks = blocks;  // a multiprocessor, for the register limit
  static constexpr int kInBytes = kRows * kDepth * 4;
  static constexpr int kStageBytes = (kRows + kCols) * kDepth * 4;
  static constexpr int kSums = rows * cols;
  static constexpr int kSharedBytes = stages * kStageBytes + kSums * kThreads * 4;
  static_assert(kSums % 4 == 0 && rows % 2 == 0 && stages >= 2);
};

// A thread's place in the block's tile. Lanes that differ in bit 0 read the same rows of in, in bit
// 1 the same of weight: then a vector load of a warp takes two cycles instead of four.
struct Place {
  int row;
  int col;
};
template <typename Tile>
__device__ Place place_of_thread() {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int down = (lane >> 1 & 1) | (lane >> 2 & 2);
  const int across = (lane & 1) | (lane >> 1 & 2) | (lane >> 2 & 4);
  return {warp / Tile::kWarpsAcross * Tile::kWarpRows + down,
          warp % Tile::kWarpsAcross * Tile::kWarpCols + across};
}

template <typename Tile>
using Sums = float[Tile::kThreadRows][Tile::kThreadCols];

template <typename Tile>
__device__ void multiply_stage(Sums<Tile>& sums, const char* stage, Place place) {
  // four rows of in further, the swizzle differs by 2 chunks; eight rows further it is the same
  const uint32_t in = swizzled<kChunks>(place.row, 0);
  const uint32_t weight = Tile::kInBytes + swizzled<kChunks>(place.col, 0);
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    float4 x[Tile::kThreadRows];
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
      x[i] = *reinterpret_cast<const float4*>(stage + (in ^ ((chunk ^ i % 2 * 2) * 16)) +
                                              i * 4 * kDepth * 4);
#pragma unroll
    for (int j = 0; j < Tile::kThreadCols; ++j) {
      const float4 w =
          *reinterpret_cast<const float4*>(stage + (weight ^ (chunk * 16)) + j * 8 * kDepth * 4);
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i) sums[i][j] = fmaf(x[i].x, w.x, sums[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i) sums[i][j] = fmaf(x[i].y, w.y, sums[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i) sums[i][j] = fmaf(x[i].z, w.z, sums[i][j]);
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i) sums[i][j] = fmaf(x[i].w, w.w, sums[i][j]);
    }
  }
}

// Adds a finished run to the thread's totals, four at a time, and starts the next. Totals are in
// shared memory, not in registers: they are touched once in 128 k.
template <typename Tile>
__device__ void end_run(Sums<Tile>& sums, float4* totals, bool first) {
#pragma unroll
  for (int e = 0; e < Tile::kSums / 4; ++e) {
    float* s = &sums[0][0] + 4 * e;
    float4& total = totals[e * Tile::kThreads];
    if (first) {
      total = {s[0], s[1], s[2], s[3]};
    } else {
      total = {total.x + s[0], total.y + s[1], total.z + s[2], total.w + s[3]};
    }
    s[0] = s[1] = s[2] = s[3] = 0;
  }
}

template <typename Tile, typename Copy>
__device__ void accumulate(float4* totals, const char* shared, int depth, const Copy& copy_stage) {
  const Place place = place_of_thread<Tile>();
  const int tiles = (depth + kDepth - 1) / kDepth;
  Sums<Tile> sums = {};
  int read = 0;
  int write = Tile::kStages - 1;
  for (int tile = 0; tile < tiles; ++tile) {
    wait_copies<Tile::kStages - 2>();
    __syncthreads();  // the stage is filled, and the one before it no longer read
    if (tile + Tile::kStages - 1 < tiles) copy_stage(write, (tile + Tile::kStages - 1) * kDepth);
    commit_copies();
    multiply_stage<Tile>(sums, shared + read * Tile::kStageBytes, place);
    if (tile % kRunStages == kRunStages - 1 || tile + 1 == tiles)
      end_run<Tile>(sums, totals, tile < kRunStages);
    read = read + 1 == Tile::kStages ? 0 : read + 1;
    write = write + 1 == Tile::kStages ? 0 : write + 1;
  }
  wait_copies<0>();  // few k: stages of padding may still be under way
}

// From the thread's own totals, so that the code for every activation exists only four times.
template <typename Tile>
__device__ void store_totals(const float4* totals, const GemmArguments& arguments, Place place,
                             int rows) {
  const auto* residual = static_cast<const float*>(arguments.residual);
  auto* out = static_cast<float*>(arguments.out);
#pragma unroll 1
  for (int e = 0; e < Tile::kSums / 4; ++e) {
    const float4 total = totals[e * Tile::kThreads];
    const float four[4] = {total.x, total.y, total.z, total.w};
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int row = place.row + (4 * e + q) / Tile::kThreadCols * 4;
      const int col = place.col + (4 * e + q) % Tile::kThreadCols * 8;
      if (row >= rows || col >= arguments.outputs) continue;
      const int64_t at = row * arguments.out_stride + col;
      float x = four[q] + arguments.bias[col];
      if (residual != nullptr) x += residual[at];
      out[at] = activate<float>(arguments.activation, x);
    }
  }
}

// Blocks a multiprocessor to leave registers for. ptxas for sm_100 and later loads further ahead,
// and with kBlocks of them it spills. One fewer is still more than sm_120's 100 KB of shared memory
// hold (1, 2 and 3), and on sm_100 the price of no spills. Grids do not depend on it.
template <typename Tile>
constexpr int min_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  return Tile::kBlocks - 1;
#else
  return Tile::kBlocks;
#endif
}

template <typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, min_blocks<Tile>())
    gemm_fp32_kernel(const GemmArguments arguments) {
  extern __shared__ __align__(128) char shared[];
  const uint32_t stages = shared_address(shared);
  float4* totals = reinterpret_cast<float4*>(shared + Tile::kStages * Tile::kStageBytes) +
                   threadIdx.x;  // and every kThreads-th after it
  const int tiles_across = (arguments.outputs + Tile::kCols - 1) / Tile::kCols;
  const int row_begin = static_cast<int>(blockIdx.x) / tiles_across * Tile::kRows;
  const int col_begin = static_cast<int>(blockIdx.x) % tiles_across * Tile::kCols;

  wait_for_previous();
  const int rows = read_num_rows(arguments);
  if (row_begin >= rows) return;
  const StageCopier<Tile::kRows, kDepth, 4, Tile::kThreads> in(arguments.in, arguments.in_stride,
                                                               row_begin, rows, arguments.inputs);
  const StageCopier<Tile::kCols, kDepth, 4, Tile::kThreads> weight(
      arguments.weight, arguments.weight_stride, col_begin, arguments.outputs, arguments.inputs);
  const auto copy_stage = [&](int stage, int k) {
    in.copy(stages + stage * Tile::kStageBytes, k);
    weight.copy(stages + stage * Tile::kStageBytes + Tile::kInBytes, k);
  };
#pragma unroll
  for (int s = 0; s < Tile::kStages - 1; ++s) {
    copy_stage(s, s * kDepth);
    commit_copies();
  }
  accumulate<Tile>(totals, shared, arguments.inputs, copy_stage);

  const Place place = place_of_thread<Tile>();
  store_totals<Tile>(totals, arguments, {row_begin + place.row, col_begin + place.col}, rows);
}

// ---- Launching

// 68 KiB: three blocks a multiprocessor of sm_90, two of sm_80.
using LargeTile = Tile<8, 8, 3, 3>;   // 64×128
using MediumTile = Tile<8, 4, 3, 4>;  // 64×64
using SmallTile = Tile<4, 2, 6, 6>;   // 32×32: many blocks, deep

template <typename Tile>
constexpr TileShape shape_of(float speed) {
  return {Tile::kRows, Tile::kCols, speed};
}
// Speeds are estimates from shared memory's traffic.
constexpr TileShape kTiles[] = {shape_of<LargeTile>(1.0f), shape_of<MediumTile>(0.85f),
                                shape_of<SmallTile>(0.45f)};

template <typename Tile>
void launch_tile(const GemmArguments& arguments, const DeviceTraits& device, cudaStream_t stream) {
  const auto kernel = gemm_fp32_kernel<Tile>;
  LaunchShape shape;
  shape.grid = dim3(
      static_cast<unsigned>(tile_count(shape_of<Tile>(1), arguments.max_rows, arguments.outputs)));
  shape.block = dim3(Tile::kThreads);
  shape.shared_bytes = Tile::kSharedBytes;
  allow_shared_bytes(kernel, shape.shared_bytes);
  launch(kernel, shape, device.overlap, stream, arguments);
}

}  // namespace

void gemm_fp32(const GemmArguments& arguments, const DeviceTraits& device, cudaStream_t stream) {
  if (arguments.max_rows == 0 || arguments.outputs == 0) return;
  switch (choose_tile(kTiles, arguments.max_rows, arguments.outputs, device.num_multiprocessors)) {
    case 0:
      return launch_tile<LargeTile>(arguments, device, stream);
    case 1:
      return launch_tile<MediumTile>(arguments, device, stream);
    default:
      return launch_tile<SmallTile>(arguments, device, stream);
  }
}

}  // namespace vlt::cuda
