// out = activation(in · weightᵀ + bias) or in · weightᵀ + bias + residual, float16 and bfloat16, on
// the matrix instruction that every device since sm_80 has (mma.sync).
//
// Layout     in [M, K] and weight [N, K], both k-contiguous: A and B fragments by ldmatrix.
// Mapping    A block owns a tile of out, a warp a part of it; neighbouring blocks are neighbours in
//            N, so that they share rows of `in` in L2. Blocks from M on return.
// Memory     kStages stages of [kRows, kDepth] of in and [kCols, kDepth] of weight, swizzled, filled
//            by cp.async kStages - 1 steps ahead; at the end the same bytes hold 16 rows of each
//            warp's sums, for whole-line stores.
// Roofline   2·M·N·K flops. A warp's 64×64 tile reads 4 KiB of shared memory for 64 Ki multiply-
//            adds: 32 of the 64 cycles that the matrix unit of sm_80 needs, and copying adds 16.
// Numerics   One float32 sum an element, steps of 16 along k strictly ascending, no step that is
//            all padding: the same bits by every tile. Bias, activation and residual in float32,
//            one rounding.
// Reference  linear in reference/reference_backend.cpp
#include <iterator>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/gemm_tiles.cuh"

namespace vlt::cuda {
namespace {

constexpr int kStep = 16;  // k of one matrix instruction

template <int rows, int cols, int depth, int warps_down, int warps_across, int stages, int blocks>
struct Tile {
  static constexpr int kRows = rows;
  static constexpr int kCols = cols;
  static constexpr int kDepth = depth;
  static constexpr int kWarpsAcross = warps_across;
  static constexpr int kStages = stages;
  static constexpr int kBlocks = blocks;  // a multiprocessor, for the register limit
  static constexpr int kThreads = 32 * warps_down * warps_across;
  static constexpr int kWarpRows = rows / warps_down;
  static constexpr int kWarpCols = cols / warps_across;
  static constexpr int kChunks = depth / 8;  // 16 bytes each
  static constexpr int kSteps = depth / kStep;
  static constexpr int kInBytes = rows * depth * 2;
  static constexpr int kStageBytes = (rows + cols) * depth * 2;
  static constexpr int kSharedBytes = stages * kStageBytes;
  // 8 floats more a row: the four rows that half a warp writes lie in different banks.
  static constexpr int kSlabStride = kWarpCols + 8;
  static constexpr int kSlabFloats = 16 * kSlabStride;
  static_assert(kWarpRows % 16 == 0 && kWarpCols % 16 == 0 && kSteps >= 2 && stages >= 2);
  static_assert(warps_down * warps_across * kSlabFloats * 4 <= kSharedBytes);
};

// What the epilogue does is known at compile time where it matters.
enum class Finish { kIdentity, kGelu, kAnyActivation };

// ---- Main loop

template <typename Tile>
struct Fragments {
  uint32_t in[Tile::kWarpRows / 16][4];
  uint32_t weight[Tile::kWarpCols / 16][4];  // two fragments of 8 columns each
};

// Where this lane reads its rows of fragment 0, from the start of each operand.
struct LaneOffsets {
  uint32_t in;
  uint32_t weight;
};

template <typename Tile>
__device__ LaneOffsets lane_offsets() {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int in_row = warp / Tile::kWarpsAcross * Tile::kWarpRows;
  const int weight_row = warp % Tile::kWarpsAcross * Tile::kWarpCols;
  // in: rows 0-7, rows 8-15, then both again 8 columns on;
  // weight: rows 0-7, the same 8 columns on, then rows 8-15 likewise
  return {swizzled<Tile::kChunks>(in_row + lane % 16, lane / 16),
          swizzled<Tile::kChunks>(weight_row + lane % 8 + lane / 16 * 8, lane / 8 % 2)};
}

template <typename Tile>
__device__ void load_fragments(Fragments<Tile>& fragments, uint32_t stage, LaneOffsets lane,
                               int step) {
  // two chunks on, which commutes with the swizzle's exclusive-or
  const uint32_t in = stage + (lane.in ^ (step * 32));
  const uint32_t weight = stage + Tile::kInBytes + (lane.weight ^ (step * 32));
#pragma unroll
  for (int i = 0; i < Tile::kWarpRows / 16; ++i)
    load_matrices(fragments.in[i], in + i * 16 * Tile::kDepth * 2);
#pragma unroll
  for (int j = 0; j < Tile::kWarpCols / 16; ++j)
    load_matrices(fragments.weight[j], weight + j * 16 * Tile::kDepth * 2);
}

template <typename Tile>
using Sums = float[Tile::kWarpRows / 16][Tile::kWarpCols / 8][4];

template <typename T, typename Tile>
__device__ void multiply(Sums<Tile>& sums, const Fragments<Tile>& fragments) {
#pragma unroll
  for (int i = 0; i < Tile::kWarpRows / 16; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kWarpCols / 8; ++j) {
      // there and back, so that neighbours in time share an operand
      const int n = i % 2 == 0 ? j : Tile::kWarpCols / 8 - 1 - j;
      const uint32_t(&weight)[4] = fragments.weight[n / 2];
      mma_16x8x16<T>(sums[i][n], fragments.in[i], weight[n % 2 * 2], weight[n % 2 * 2 + 1]);
    }
}

// The first kStages - 1 stages are under way. Fragments are loaded one step ahead of their use; a
// stage is refilled in the iteration after its last use, behind that iteration's barrier.
template <typename T, typename Tile, typename Copy>
__device__ void accumulate(Sums<Tile>& sums, uint32_t shared, int depth, const Copy& copy_stage) {
  const LaneOffsets lane = lane_offsets<Tile>();
  const int tiles = (depth + Tile::kDepth - 1) / Tile::kDepth;
  const int steps = (depth + kStep - 1) / kStep;
  uint32_t read = shared;
  uint32_t write = shared + (Tile::kStages - 1) * Tile::kStageBytes;
  const auto advance = [&](uint32_t& stage) {
    stage += Tile::kStageBytes;
    if (stage == shared + Tile::kSharedBytes) stage = shared;
  };

  Fragments<Tile> fragments[2];
  wait_copies<Tile::kStages - 2>();
  __syncthreads();
  load_fragments<Tile>(fragments[0], read, lane, 0);
  for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
    for (int step = 0; step < Tile::kSteps; ++step) {
      if (step + 1 == Tile::kSteps) {
        wait_copies<Tile::kStages - 2>();
        __syncthreads();
        advance(read);
      }
      // after the last tile this loads what is never used
      load_fragments<Tile>(fragments[(step + 1) % 2], read, lane, (step + 1) % Tile::kSteps);
      if (step == 0) {
        if (tile + Tile::kStages - 1 < tiles)
          copy_stage(write, (tile + Tile::kStages - 1) * Tile::kDepth);
        commit_copies();
        advance(write);
      }
      multiply<T, Tile>(sums, fragments[step % 2]);
      if (step + 1 < Tile::kSteps && tile * Tile::kSteps + step + 1 == steps) break;
    }
  }
  wait_copies<0>();
  __syncthreads();
}

// ---- Epilogue: four neighbouring columns a lane

template <typename T>
__device__ float4 load_four(const T* from, int cols) {
  if (cols >= 4) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(from);
    const float2 low = unpack_pair<T>(pairs.x), high = unpack_pair<T>(pairs.y);
    return {low.x, low.y, high.x, high.y};
  }
  return {to_float(from[0]), cols > 1 ? to_float(from[1]) : 0, cols > 2 ? to_float(from[2]) : 0, 0};
}

__device__ inline void store_four_whole(float* to, float4 x) { *reinterpret_cast<float4*>(to) = x; }
template <typename T>
__device__ void store_four_whole(T* to, float4 x) {
  *reinterpret_cast<uint2*>(to) = {pack_pair<T>(x.x, x.y), pack_pair<T>(x.z, x.w)};
}
template <typename Out>
__device__ void store_four(Out* to, float4 x, int cols, bool aligned) {
  if (cols >= 4 && aligned) return store_four_whole(to, x);
  to[0] = from_float<Out>(x.x);
  if (cols > 1) to[1] = from_float<Out>(x.y);
  if (cols > 2) to[2] = from_float<Out>(x.z);
  if (cols > 3) to[3] = from_float<Out>(x.w);
}

template <typename Out, Finish kFinish>
__device__ float finish(Activation activation, float x) {
  if constexpr (kFinish == Finish::kIdentity) return x;
  if constexpr (kFinish == Finish::kGelu) return activate<Out>(Activation::kGelu, x);
  return activate<Out>(activation, x);
}

// Sums change hands through the warp's own slab of 16 rows, so that a warp stores 32 to 128
// neighbouring bytes of a row. Each lane keeps to four columns.
template <typename T, typename Out, Finish kFinish, typename Tile>
__device__ void store_tile(const Sums<Tile>& sums, float* slab, const GemmArguments& arguments,
                           int row_begin, int col_begin, int rows) {
  constexpr int kLanesPerRow = Tile::kWarpCols / 4;
  constexpr int kRowsAtOnce = 32 / kLanesPerRow;
  // All of a slab in flight, but an activation chosen at run time is expanded only once.
  constexpr int kBatch = kFinish == Finish::kAnyActivation ? 1 : 16 / kRowsAtOnce;
  const int lane = threadIdx.x % 32;
  const int row_in_pass = lane / kLanesPerRow;
  const int slab_col = lane % kLanesPerRow * 4;
  const int col = col_begin + slab_col;
  const int cols = arguments.outputs - col;
  const float* bias = arguments.bias + col;  // padded beyond every tile
  const float4 offset = {bias[0], bias[1], bias[2], bias[3]};
  const T* residual = static_cast<const T*>(arguments.residual);
  Out* out = static_cast<Out*>(arguments.out);
  // Rows of 16-bit results always are; float32 ones may be a caller's, without gaps.
  const bool aligned = sizeof(Out) == 2 || arguments.out_stride % 4 == 0;

#pragma unroll
  for (int i = 0; i < Tile::kWarpRows / 16; ++i) {
    __syncwarp();
#pragma unroll
    for (int j = 0; j < Tile::kWarpCols / 8; ++j) {
      float* to = slab + lane / 4 * Tile::kSlabStride + j * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = {sums[i][j][0], sums[i][j][1]};
      *reinterpret_cast<float2*>(to + 8 * Tile::kSlabStride) = {sums[i][j][2], sums[i][j][3]};
    }
    __syncwarp();
#pragma unroll 1
    for (int begin = 0; begin < 16; begin += kBatch * kRowsAtOnce) {
      float4 x[kBatch];
      const int first = row_begin + i * 16 + begin + row_in_pass;
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int slab_row = begin + b * kRowsAtOnce + row_in_pass;
        x[b] = *reinterpret_cast<const float4*>(slab + slab_row * Tile::kSlabStride + slab_col);
        x[b] = {x[b].x + offset.x, x[b].y + offset.y, x[b].z + offset.z, x[b].w + offset.w};
      }
      if (kFinish != Finish::kGelu && residual != nullptr) {
#pragma unroll
        for (int b = 0; b < kBatch; ++b) {
          const int row = first + b * kRowsAtOnce;
          if (row >= rows || cols <= 0) continue;
          const float4 y = load_four(residual + row * arguments.out_stride + col, cols);
          x[b] = {x[b].x + y.x, x[b].y + y.y, x[b].z + y.z, x[b].w + y.w};
        }
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int row = first + b * kRowsAtOnce;
        if (row >= rows || cols <= 0) continue;
        x[b] = {finish<Out, kFinish>(arguments.activation, x[b].x),
                finish<Out, kFinish>(arguments.activation, x[b].y),
                finish<Out, kFinish>(arguments.activation, x[b].z),
                finish<Out, kFinish>(arguments.activation, x[b].w)};
        store_four(out + row * arguments.out_stride + col, x[b], cols, aligned);
      }
    }
  }
}

template <typename T, typename Out, Finish kFinish, typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    gemm_mma_kernel(const GemmArguments arguments) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const uint32_t shared = shared_address(shared_bytes);
  const int tiles_across = (arguments.outputs + Tile::kCols - 1) / Tile::kCols;
  const int row_begin = static_cast<int>(blockIdx.x) / tiles_across * Tile::kRows;
  const int col_begin = static_cast<int>(blockIdx.x) % tiles_across * Tile::kCols;

  // Weights are there before the previous kernel ends: they join the first stage's group.
  const StageCopier<Tile::kCols, Tile::kDepth, 2, Tile::kThreads> weight(
      arguments.weight, arguments.weight_stride, col_begin, arguments.outputs, arguments.inputs);
#pragma unroll
  for (int s = 0; s < Tile::kStages - 1; ++s)
    weight.copy(shared + s * Tile::kStageBytes + Tile::kInBytes, s * Tile::kDepth);

  wait_for_previous();
  const int rows = read_num_rows(arguments);
  if (row_begin >= rows) {
    commit_copies();
    wait_copies<0>();  // shared memory passes to another block
    return;
  }
  const StageCopier<Tile::kRows, Tile::kDepth, 2, Tile::kThreads> in(
      arguments.in, arguments.in_stride, row_begin, rows, arguments.inputs);
#pragma unroll
  for (int s = 0; s < Tile::kStages - 1; ++s) {
    in.copy(shared + s * Tile::kStageBytes, s * Tile::kDepth);
    commit_copies();
  }

  Sums<Tile> sums = {};
  accumulate<T, Tile>(sums, shared, arguments.inputs, [&](uint32_t stage, int k) {
    in.copy(stage, k);
    weight.copy(stage + Tile::kInBytes, k);
  });

  const int warp = threadIdx.x / 32;
  float* slab = reinterpret_cast<float*>(shared_bytes) + warp * Tile::kSlabFloats;
  store_tile<T, Out, kFinish, Tile>(sums, slab, arguments,
                                    row_begin + warp / Tile::kWarpsAcross * Tile::kWarpRows,
                                    col_begin + warp % Tile::kWarpsAcross * Tile::kWarpCols, rows);
}

// ---- Launching

// 64 KiB of stages: two blocks of the largest tile on every device with 164 KiB or more.
using LargeTile = Tile<128, 128, 32, 2, 2, 4, 2>;
using TallTile = Tile<128, 64, 32, 2, 2, 4, 3>;
using MediumTile = Tile<64, 64, 64, 2, 2, 4, 3>;
using SmallTile = Tile<32, 32, 64, 2, 2, 6, 4>;  // many blocks, deep: latency is what counts

template <typename Tile>
constexpr TileShape shape_of(float speed) {
  return {Tile::kRows, Tile::kCols, speed};
}
// Speeds are estimates from shared memory's traffic.
constexpr TileShape kTiles[] = {shape_of<LargeTile>(1.0f), shape_of<TallTile>(0.9f),
                                shape_of<MediumTile>(0.75f), shape_of<SmallTile>(0.35f)};

template <typename T, typename Out, Finish kFinish, typename Tile>
void launch_kernel(const GemmArguments& arguments, const DeviceTraits& device,
                   cudaStream_t stream) {
  const auto kernel = gemm_mma_kernel<T, Out, kFinish, Tile>;
  LaunchShape shape;
  shape.grid = dim3(
      static_cast<unsigned>(tile_count(shape_of<Tile>(1), arguments.max_rows, arguments.outputs)));
  shape.block = dim3(Tile::kThreads);
  shape.shared_bytes = Tile::kSharedBytes;
  allow_shared_bytes(kernel, shape.shared_bytes);
  launch(kernel, shape, device.overlap, stream, arguments);
}

template <typename T, typename Tile>
void launch_tile(const GemmArguments& a, const DeviceTraits& device, cudaStream_t stream) {
  if (a.out_dtype == DType::kFloat32)
    return launch_kernel<T, float, Finish::kAnyActivation, Tile>(a, device, stream);
  switch (a.activation) {
    case Activation::kIdentity:
      return launch_kernel<T, T, Finish::kIdentity, Tile>(a, device, stream);
    case Activation::kGelu:
      return launch_kernel<T, T, Finish::kGelu, Tile>(a, device, stream);
    default:
      return launch_kernel<T, T, Finish::kAnyActivation, Tile>(a, device, stream);
  }
}

template <typename T>
void launch_dtype(int tile, const GemmArguments& arguments, const DeviceTraits& device,
                  cudaStream_t stream) {
  switch (tile) {
    case 0:
      return launch_tile<T, LargeTile>(arguments, device, stream);
    case 1:
      return launch_tile<T, TallTile>(arguments, device, stream);
    case 2:
      return launch_tile<T, MediumTile>(arguments, device, stream);
    default:
      return launch_tile<T, SmallTile>(arguments, device, stream);
  }
}

}  // namespace

void gemm_mma(const GemmArguments& arguments, const DeviceTraits& device, cudaStream_t stream) {
  if (arguments.max_rows == 0 || arguments.outputs == 0) return;
  const int tile =
      choose_tile(kTiles, arguments.max_rows, arguments.outputs, device.num_multiprocessors);
  if (arguments.dtype == DType::kBFloat16) {
    launch_dtype<bfloat16>(tile, arguments, device, stream);
  } else {
    launch_dtype<half>(tile, arguments, device, stream);
  }
}

}  // namespace vlt::cuda
