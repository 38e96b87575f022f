// Attention for sequences of more than 128 tokens, float16 and bfloat16, sm_80 and later.
//
// out = softmax(q · kᵀ · scale) · v with the online softmax (Milakov and Gimelshein 2018; Dao et
// al. 2022): keys come in tiles; each query keeps the greatest score so far, and what is summed up
// is scaled down whenever that rises. Operations bind: 4·L·A·D a token.
//
// A block takes an item, 64 queries of a sequence, and one head at a time. Its warps have 16
// queries each, or 32 where registers allow: then each fragment of keys and values read from shared
// memory serves twice as many products, and that reading is what limits small heads.
//
// Shared memory: [q: 64 rows][k | v of one tile][k | v of the next]; a tile's copies run while the
// tile before it is computed. 40 KB for D = 64, so that several blocks share a multiprocessor.
#include <algorithm>

#include "kernels/cuda/attention_mma.cuh"

namespace vlt::cuda {
namespace {

template <int D>
struct Shape {
  static constexpr int kStrips = D <= 64 ? 2 : 1;  // of 16 queries, a warp
  static constexpr int kThreads = 32 * kMmaQueryTile / (16 * kStrips);
  static constexpr int kKeys = D <= 128 ? 64 : 32;  // a tile
  static constexpr bool kKeepQueries = D <= 128;    // in registers
  static constexpr int kQueryBytes = kMmaQueryTile * HeadTile<D>::kRowBytes;
  static constexpr int kTileBytes = kKeys * HeadTile<D>::kRowBytes;
  static constexpr int kBytes = kQueryBytes + 4 * kTileBytes;
};
template <int D>
using WarpQueries = Queries<D, Shape<D>::kStrips, Shape<D>::kKeepQueries>;

// What a warp has of its queries so far. output: products and, in the last tile, sums of
// probabilities relative to `maximum`.
template <int D>
struct Running {
  float maximum[Shape<D>::kStrips][2];
  float output[Shape<D>::kStrips][D / 8 + 1][4];
};

// Raises the maxima to those of the tile's scores too and scales what is there down to them.
// Writes each maximum times scale_log2, or 0 where every score is -infinity so far.
template <int D>
__device__ void rescale(Running<D>& running, const float (&tile_maximum)[Shape<D>::kStrips][2],
                        float (&reference)[Shape<D>::kStrips][2], float scale_log2) {
#pragma unroll
  for (int strip = 0; strip < Shape<D>::kStrips; ++strip)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float before = running.maximum[strip][i];
      const float now = fmaxf(before, quad_maximum(tile_maximum[strip][i]));
      running.maximum[strip][i] = now;
      reference[strip][i] = now == -INFINITY ? 0.0f : now * scale_log2;
      const float factor = exp2_fast(fmaf(before, scale_log2, -reference[strip][i]));
#pragma unroll
      for (int n = 0; n <= D / 8; ++n) {
        running.output[strip][n][2 * i] *= factor;
        running.output[strip][n][2 * i + 1] *= factor;
      }
    }
}

// kBlocks blocks of 16 keys and values of a tile. kMasked: the last block ends at num_keys.
template <typename T, int D, int kBlocks, bool kMasked>
__device__ void attend(Running<D>& running, const WarpQueries<D>& queries, uint32_t tile,
                       int num_keys, float scale_log2, int lane) {
  constexpr int kStrips = Shape<D>::kStrips;
  const LanePointer<D> keys = key_pointer<D>(tile, lane);
  const LanePointer<D> values = row_pointer<D>(tile + Shape<D>::kTileBytes, lane);

  float scores[kStrips][2 * kBlocks][4];
  float tile_maximum[kStrips][2];
  float reference[kStrips][2];
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
    tile_maximum[strip][0] = tile_maximum[strip][1] = -INFINITY;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    multiply_keys<T>(scores, queries, keys, block);
    if (kMasked && block == kBlocks - 1) mask_keys(scores, block, num_keys, lane);
    raise_maximum(tile_maximum, scores, block);
  }
  rescale(running, tile_maximum, reference, scale_log2);
  uint32_t packed[kStrips][kBlocks][4];
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    pack_probabilities<T>(packed, scores, reference, scale_log2, block);
    multiply_values<T, D>(running.output, packed, values, block);
  }
}

// attend() for a last tile that is not full, with as many blocks as its num_keys keys take. The
// number is a template parameter since tests inside attend() would cost it registers.
template <typename T, int D, int kBlocks = 1>
__device__ void attend_last(Running<D>& running, const WarpQueries<D>& queries, uint32_t tile,
                            int num_keys, float scale_log2, int lane) {
  if constexpr (kBlocks < Shape<D>::kKeys / 16) {
    if (num_keys > 16 * kBlocks)
      return attend_last<T, D, kBlocks + 1>(running, queries, tile, num_keys, scale_log2, lane);
  }
  attend<T, D, kBlocks, true>(running, queries, tile, num_keys, scale_log2, lane);
}

// A sequence's queries from `query_begin` on, in one head.
struct Unit {
  int32_t first_row;  // of the sequence
  int32_t length;
  int32_t query_begin;
  int32_t head;
};

template <typename T, int D, bool kAligned>
__device__ void load_tile(const MmaAttention<T>& p, const T* keys, int length, int index,
                          uint32_t stages, int thread) {
  constexpr int kThreads = Shape<D>::kThreads;
  const int begin = index * Shape<D>::kKeys;
  const uint32_t tile = stages + index % 2 * 2 * Shape<D>::kTileBytes;
#pragma unroll
  for (int part = 0; part < 2; ++part)
    load_rows<T, D, kAligned, Shape<D>::kKeys, kThreads>(
        tile + part * Shape<D>::kTileBytes,
        keys + begin * p.qkv_stride + part * p.num_heads * p.head_size, p.qkv_stride,
        length - begin, p.head_size, thread);
}

template <typename T, int D, bool kAligned>
__device__ void compute_unit(const MmaAttention<T>& p, const Unit& unit, uint32_t shared) {
  using S = Shape<D>;
  const unsigned thread = thread_index();
  const int lane = thread % 32;
  const int warp_begin = thread / 32 * 16 * S::kStrips;  // the warp's first query, of the 64
  const uint32_t warp_rows = shared + warp_begin * HeadTile<D>::kRowBytes;
  const uint32_t stages = shared + S::kQueryBytes;
  const int num_queries = unit.length - unit.query_begin;
  const bool active = warp_begin < num_queries;
  const int num_tiles = (unit.length + S::kKeys - 1) / S::kKeys;
  const T* queries_from = p.qkv + unit.first_row * p.qkv_stride + unit.head * p.head_size;
  const T* keys_from = queries_from + p.num_heads * p.head_size;

  __syncthreads();  // the unit before has been read
  load_rows<T, D, kAligned, kMmaQueryTile, S::kThreads>(
      shared, queries_from + unit.query_begin * p.qkv_stride, p.qkv_stride, num_queries,
      p.head_size, thread);
  commit_copies();
  load_tile<T, D, kAligned>(p, keys_from, unit.length, 0, stages, thread);
  commit_copies();
  wait_copies<1>();
  __syncthreads();  // the queries are in
  const WarpQueries<D> queries(warp_rows, lane);

  Running<D> running = {};
#pragma unroll
  for (int strip = 0; strip < S::kStrips; ++strip)
    running.maximum[strip][0] = running.maximum[strip][1] = -INFINITY;
  for (int tile = 0; tile < num_tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // this tile is in, and the one before has been read
    const uint32_t stage = stages + tile % 2 * 2 * S::kTileBytes;
    const int num_keys = unit.length - tile * S::kKeys;
    if (tile + 1 < num_tiles) {
      load_tile<T, D, kAligned>(p, keys_from, unit.length, tile + 1, stages, thread);
      commit_copies();
    }
    if (!active) continue;
    if (num_keys >= S::kKeys)
      attend<T, D, S::kKeys / 16, false>(running, queries, stage, num_keys, p.scale_log2, lane);
    else
      attend_last<T, D>(running, queries, stage, num_keys, p.scale_log2, lane);
  }

#pragma unroll
  for (int strip = 0; strip < S::kStrips; ++strip) {
    const int begin = warp_begin + 16 * strip;
    store_strip<T, D, kAligned>(running.output[strip],
                                warp_rows + 16 * strip * HeadTile<D>::kRowBytes,
                                p.out + (unit.first_row + unit.query_begin + begin) * p.out_stride +
                                    unit.head * p.head_size,
                                p.out_stride, num_queries - begin, p.head_size);
  }
}

// Blocks a multiprocessor to leave registers for; 0: as ptxas thinks best. For sm_120 it would
// rather spill (D = 96) than let fewer than three blocks fit, but of the 100 KB of shared memory
// there each takes more than half. Only for ptxas: hosts ask for the occupancy.
template <int D>
constexpr int min_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
  return Shape<D>::kBytes > 50 * 1024 - 1024 ? 1 : 0;  // the driver takes 1 KB a block
#else
  return 0;
#endif
}

// An item of the long list is one tile of queries, an item of the short list is up to two.
template <typename T, int D, bool kAligned>
__global__ void __launch_bounds__(Shape<D>::kThreads, min_blocks<D>())
    attention_long_kernel(const MmaAttention<T> p, bool short_list) {
  extern __shared__ __align__(128) char storage[];
  const uint32_t shared = shared_address(storage);
  wait_for_previous();

  const int tiles_per_item = short_list ? kShortLength / kMmaQueryTile : 1;
  const int first_item = short_list ? p.state->short_begin[0] : 0;
  const int num_items =
      short_list ? p.state->short_begin[kNumShortClasses] - first_item : p.state->num_long_items;
  const int num_units = num_items * tiles_per_item * p.num_heads;
  for (int i = blockIdx.x; i < num_units; i += gridDim.x) {
    const int tile = i / p.num_heads;
    const AttentionItem item = p.items[first_item + tile / tiles_per_item];
    const Unit unit = {item.first_row, item.length,
                       item.query_begin + tile % tiles_per_item * kMmaQueryTile, i % p.num_heads};
    if (unit.query_begin < unit.length) compute_unit<T, D, kAligned>(p, unit, shared);
  }
}

template <typename T, int D, bool kAligned>
void launch_size(const AttentionArguments& arguments, bool short_list, const DeviceTraits& device,
                 cudaStream_t stream) {
  constexpr auto kernel = attention_long_kernel<T, D, kAligned>;
  LaunchShape shape;
  shape.block = dim3(Shape<D>::kThreads);
  shape.shared_bytes = Shape<D>::kBytes;
  allow_shared_bytes(kernel, shape.shared_bytes);
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, Shape<D>::kThreads,
                                                      shape.shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  const int64_t resident = int64_t{std::max(blocks, 1)} * device.num_multiprocessors;
  const int64_t items =
      short_list ? max_short_items(arguments.max_sequences) * kShortLength / kMmaQueryTile
                 : max_long_items(arguments.max_rows);
  shape.grid = dim3(static_cast<unsigned>(std::min(resident, items * arguments.num_heads)));
  launch(kernel, shape, device.overlap, stream,
         mma_parameters<T>(arguments, short_list ? arguments.short_items : arguments.long_items),
         short_list);
}

template <typename T>
void launch_long(const AttentionArguments& arguments, bool short_list, const DeviceTraits& device,
                 cudaStream_t stream) {
  if (heads_are_aligned(arguments)) {
    with_head_size<16, 32, 48, 64, 80, 96, 128, 256>(arguments.head_size, [&](auto size) {
      launch_size<T, size, true>(arguments, short_list, device, stream);
    });
  } else {  // rare, and slow whatever the size: fewer kernels
    with_head_size<32, 64, 128, 256>(arguments.head_size, [&](auto size) {
      launch_size<T, size, false>(arguments, short_list, device, stream);
    });
  }
}

void launch_list(const AttentionArguments& arguments, bool short_list, const DeviceTraits& device,
                 cudaStream_t stream) {
  if (arguments.dtype == DType::kFloat16)
    launch_long<half>(arguments, short_list, device, stream);
  else
    launch_long<bfloat16>(arguments, short_list, device, stream);
}

}  // namespace

void attention_long_mma(const AttentionArguments& arguments, const DeviceTraits& device,
                        cudaStream_t stream) {
  if (arguments.max_rows > kShortLength) launch_list(arguments, false, device, stream);
}

void attention_short_in_tiles(const AttentionArguments& arguments, const DeviceTraits& device,
                              cudaStream_t stream) {
  if (arguments.max_sequences > 0) launch_list(arguments, true, device, stream);
}

}  // namespace vlt::cuda
