// out [M, N] = norm(in [M, K] · weight [N, K]ᵀ + bias + residual [M, N]) in one kernel, for few rows
// on sm_90a, where a kernel takes longer to start than to norm what the one before has written.
//
// The blocks of a cluster compute one strip of 64 rows, as gemm_hopper_kernel.cuh does: each has
// one tile, `cols` of the columns. Then each norms some of the strip's rows. Once its results are in
// the staging buffer, a warp sends every block the part of its rows, from shared memory to shared
// memory; a barrier there counts the bytes. So no block fences what others are to read, and no row
// goes to memory before it is normed.
//
// Sums, rounding and norm are those of gemm_hopper() and layernorm(), to the bit. What it gains and
// loses by the number of rows: see norming_along_pays() and BENCHMARKS.md.
#include <algorithm>

#include "kernels/cuda/gemm_hopper_kernel.cuh"
#include "kernels/cuda/gemm_norm.h"
#include "kernels/cuda/norm_constants.cuh"
#include "kernels/cuda/tensor_map.h"

namespace vlt::cuda {
namespace hopper {

constexpr int kStripRows = 64;

// A cluster of `blocks` blocks.
struct Cluster {
  int blocks;
  __device__ int rank() const { return static_cast<int>(blockIdx.x) % blocks; }
  __device__ int strip() const { return static_cast<int>(blockIdx.x) / blocks; }
  // Of the strip's rows a block norms those from first_row(its rank) to the next one's.
  __device__ int first_row(int block) const { return block * kStripRows / blocks; }
};

// Behind the product's shared memory: the barrier of what the others send, and for each of them its
// columns of this block's rows, boxes as in the staging buffer.
template <typename S>
struct GatheredRows {
  static constexpr int kRowBytes = S::kBoxCols * 2;
  uint32_t barrier, base;
  int room;  // rows for which there is room
  static_assert((2 * S::kStages + 2 * S::kGroups + 1) * 8 <= S::kBarrierBytes);

  __device__ GatheredRows(const SharedMemory<S>& shared, Cluster cluster)
      : barrier(shared.written(S::kGroups)),
        base(shared.bias(S::kGroups) + S::kBarrierBytes),
        room(ceil_div(kStripRows, cluster.blocks)) {}
  __device__ uint32_t box(int block, int index) const {
    return base + (block * S::kBoxes + index) * room * kRowBytes;
  }
  // 16 bytes: the columns from `column` on of row `row` of the strip, where `first` is this block's first.
  __device__ uint4 chunk(int row, int first, int column) const {
    const int in_block = column % S::kCols;
    const int run = in_block % S::kBoxCols / 8;
    const int swizzle = row * kRowBytes / 128 % (kRowBytes / 16);
    uint4 x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "r"(box(column / S::kCols, in_block / S::kBoxCols) + (row - first) * kRowBytes +
                       (run ^ swizzle) * 16)
                 : "memory");
    return x;
  }
};

// By one warp: bias and residual into place, then the results to where they are normed.
template <typename S>
__device__ void exchange_rows(const Parameters& p, const TileSequence<S>& tiles,
                              const SharedMemory<S>& shared, const GatheredRows<S>& gathered,
                              Cluster cluster, const CUtensorMap* residual) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t ready = shared.ready(0);
  const uint32_t staging = shared.staging(0);
  if (lane == 0) {
    const int column = tiles.column(0);
    barrier_arrive_expect(ready, S::kBiasBytes + S::kStagingBytes);
    load_bytes(shared.bias(0), p.bias + column, S::kBiasBytes, ready);
    for (int box = 0; box < S::kBoxes; ++box)
      load_box(staging + box * S::kBoxBytes, residual, ready, column + box * S::kBoxCols,
               tiles.row(0));
  }
  barrier_wait(shared.written(0), 0);
  const int rank = cluster.rank();
  for (int i = lane; i < cluster.blocks * S::kBoxes; i += 32) {
    const int to = i / S::kBoxes;
    const int box = i % S::kBoxes;
    const int first = cluster.first_row(to);
    constexpr int row_bytes = GatheredRows<S>::kRowBytes;
    send_bytes(gathered.box(rank, box), staging + box * S::kBoxBytes + first * row_bytes,
               (cluster.first_row(to + 1) - first) * row_bytes, gathered.barrier, to);
  }
}

// By all warps of a block, from its gathered rows.
template <typename T, typename S, typename Row>
__device__ void norm_rows(const Parameters& p, const GatheredRows<S>& gathered, Cluster cluster,
                          const RegisterConstants<Row>& constants, const NormedRows& out) {
  const int first = cluster.first_row(cluster.rank());
  const int end = cluster.first_row(cluster.rank() + 1);
  const int before = cluster.strip() * kStripRows;
  const int num_rows = p.rows();
  const int num_chunks = out.cols / Row::kElements;
  constexpr int warps = S::kThreads / 32;
  for (int row = first + static_cast<int>(threadIdx.x) / 32 * Row::kWarpRows; row < end;
       row += warps * Row::kWarpRows) {
    const int own = min(row + Row::row_offset(0), end - 1);
    Chunks<Row> chunks;
#pragma unroll
    for (int c = 0; c < Row::kChunks; ++c) {
      chunks[0][c] = make_uint4(0, 0, 0, 0);
      if (Row::exists(c, num_chunks)) chunks[0][c] = gathered.chunk(own, first, Row::column(c));
    }
    Rows<Row> x;
    unpack_rows<T, Row>(chunks, x);
    T* to = static_cast<T*>(out.rows) + int64_t{before + own} * out.stride;
    const bool stores = row + Row::row_offset(0) < end && before + own < num_rows;
    store_norm<Row>(x, constants, out.cols, out.norm.epsilon,
                    [&](int, int column, const float(&y)[Row::kElements]) {
                      if (stores) *reinterpret_cast<uint4*>(to + column) = pack<T>(y);
                    });
  }
}

template <typename T, typename S, typename Row>
__global__ void __launch_bounds__(S::kThreads, 1)
    gemm_norm_kernel(const __grid_constant__ CUtensorMap in,
                     const __grid_constant__ CUtensorMap weight,
                     const __grid_constant__ CUtensorMap residual, const Parameters p,
                     const NormedRows out) {
  const SharedMemory<S> shared = shared_memory<S>(p);
  const int group = static_cast<int>(uniform(threadIdx.x / kGroupThreads));
  const TileSequence<S> tiles(p.tiles_across);
  const Cluster cluster{p.tiles_across};
  const GatheredRows<S> gathered(shared, cluster);
  int have_weights = 0;
  if (threadIdx.x == 0) {
    init_barriers(shared);
    barrier_init(gathered.barrier, 1);
    barrier_init_fence();
    const int rows = cluster.first_row(cluster.rank() + 1) - cluster.first_row(cluster.rank());
    barrier_arrive_expect(gathered.barrier, rows * out.cols * 2);
    prefetch_map(&in);
    prefetch_map(&weight);
    prefetch_map(&residual);
    have_weights = load_first_weights<S>(p, tiles, shared, &weight);
  }
  __syncthreads();
  cluster_arrive_relaxed();  // the barrier for the others is there
  wait_for_previous();

  if (group == 0) {
    cluster_wait();
    if (threadIdx.x == 0)
      load_tiles<S>(p, tiles, shared, &in, &weight, have_weights);
    else if (threadIdx.x / 32 == 1)
      exchange_rows<S>(p, tiles, shared, gathered, cluster, &residual);
  } else {
    RingPosition at{shared.stages};
    float sums[1][S::kCols / 2];
    multiply<T, S>(sums, at, shared, p.num_depths);
    wgmma_wait<0>();
    wgmma_pin(sums[0]);
    barrier_wait(shared.ready(0), 0);
    stage_results<T, S, Activation::kIdentity, true>(sums, shared.staging(0), shared.bias(0));
    shared_fence();
    barrier_arrive(shared.written(0));
    cluster_wait();
  }
  __syncwarp();
  const RegisterConstants<Row> constants(out.norm, out.cols);
  barrier_wait(gathered.barrier, 0);
  // Once all have what was sent to them, nothing more is read from a block's shared memory: it may end.
  cluster_arrive_relaxed();
  norm_rows<T, S, Row>(p, gathered, cluster, constants, out);
  cluster_wait();
}

}  // namespace hopper

namespace {

using hopper::ceil_div;

template <typename T, int cols, typename Row>
void launch_kernel(const GemmArguments& a, const hopper::NormedRows& out,
                   const DeviceTraits& device, cudaStream_t stream) {
  using S = hopper::Shape<hopper::kStripRows, cols>;
  const CUtensorMap in =
      make_tensor_map(a.dtype, a.in, a.max_rows, a.inputs, a.in_stride, S::kRows, hopper::kDepth);
  const CUtensorMap weight = make_tensor_map(a.dtype, a.weight, a.outputs, a.inputs,
                                             a.weight_stride, S::kCols, hopper::kDepth);
  const CUtensorMap residual = make_tensor_map(a.dtype, a.residual, a.max_rows, a.outputs,
                                               a.out_stride, S::kRows, S::kBoxCols);
  hopper::Parameters p{};
  p.bias = a.bias;
  p.num_rows = a.num_rows;
  p.max_rows = a.max_rows;
  p.tiles_across = a.outputs / cols;
  p.num_depths = ceil_div(a.inputs, hopper::kDepth);
  const int gathered = ceil_div(S::kRows, p.tiles_across) * a.outputs * 2;
  p.num_stages = std::min((hopper::kMaxSharedBytes - S::kFixedBytes - gathered) / S::kStageBytes,
                          p.num_depths);

  LaunchShape shape;
  shape.cluster = p.tiles_across;
  shape.grid = dim3(ceil_div(a.max_rows, S::kRows) * p.tiles_across);
  shape.block = dim3(S::kThreads);
  shape.shared_bytes = S::kFixedBytes + gathered + p.num_stages * S::kStageBytes;
  const auto kernel = hopper::gemm_norm_kernel<T, S, Row>;
  allow_shared_bytes(kernel, hopper::kMaxSharedBytes);
  prefer_shared_memory(kernel);
  launch(kernel, shape, device.overlap, stream, in, weight, residual, p, out);
}

template <typename T>
void launch_shape(const GemmArguments& a, const hopper::NormedRows& out, const DeviceTraits& device,
                  cudaStream_t stream) {
  const int cols = norm_block_columns(a.outputs);
  with_row_shape<T>(a.outputs / kChunkElements<T>, [&](auto row) {
    using Row = decltype(row);
    // Chunks of a row that the shape is for: more than the next smaller one has, at most its own.
    constexpr int most = Row::kLanes * Row::kChunks;
    if constexpr (most <= 64) {
      if (cols == 64) return launch_kernel<T, 64, Row>(a, out, device, stream);
    }
    if constexpr (most == 96) {
      if (cols == 96) return launch_kernel<T, 96, Row>(a, out, device, stream);
    }
    if constexpr (most == 96 || most == 128) {
      if (cols == 128) return launch_kernel<T, 128, Row>(a, out, device, stream);
    }
    throw CudaError(cudaErrorInvalidValue, "choosing a kernel for the norm");
  });
}

}  // namespace

bool gemm_norm_hopper_serves(const GemmArguments& a, const LayerNormArguments& n) {
  return norm_block_columns(a.outputs) > 0 && a.out_dtype == a.dtype && a.residual != nullptr &&
         n.cols == a.outputs && n.indirect_out == nullptr && n.out_dtype == a.dtype &&
         is_aligned(n.out) && n.out_stride % 8 == 0 && is_aligned(n.norm.weight) &&
         is_aligned(n.norm.bias);
}

void gemm_norm_hopper(const GemmArguments& a, const LayerNormArguments& n,
                      const DeviceTraits& device, cudaStream_t stream) {
  if (a.max_rows == 0) return;
  const hopper::NormedRows out{n.norm, n.out, n.out_stride, n.cols};
  if (a.dtype == DType::kBFloat16)
    launch_shape<bfloat16>(a, out, device, stream);
  else
    launch_shape<half>(a, out, device, stream);
}

}  // namespace vlt::cuda
