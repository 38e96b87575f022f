// Attention for sequences of more than 128 tokens, float16 and bfloat16, sm_80 and later.
//
// out = softmax(q · kᵀ · scale + bias) · v with the online softmax (Milakov and Gimelshein 2018; Dao
// et al. 2022): keys come in tiles; each query keeps the greatest score so far, and what is summed
// up is scaled down whenever that rises. Operations bind: 4·L·A·D a token.
//
// A block takes an item, 64 queries of a sequence, and one head at a time. Its warps have 16
// queries each, or 32 where registers allow: then each fragment of keys and values read from shared
// memory serves twice as many products, and that reading is what limits small heads.
//
// Shared memory: [q: 64 rows][k | v of one tile][k | v of the next]; a tile's copies run while the
// tile before it is computed. 40 KB for D = 64, so that several blocks share a multiprocessor.
#include "kernels/cuda/attention_mma.cuh"

namespace vlt::cuda {
namespace {

// bias: start_from_bias() leaves too few registers for two strips of 64 columns.
template <int head_size, bool bias>
struct Shape {
  static constexpr int kSize = head_size;
  static constexpr bool kBias = bias;
  static constexpr int kStrips = kSize <= (kBias ? 32 : 64) ? 2 : 1;  // of 16 queries, a warp
  static constexpr int kThreads = 32 * kMmaQueryTile / (16 * kStrips);
  static constexpr int kKeys = kSize <= 128 ? 64 : 32;  // a tile
  static constexpr bool kKeepQueries = kSize <= 128;    // in registers
  static constexpr int kQueryBytes = kMmaQueryTile * HeadTile<kSize>::kRowBytes;
  static constexpr int kTileBytes = kKeys * HeadTile<kSize>::kRowBytes;
  static constexpr int kBytes = kQueryBytes + 4 * kTileBytes;
};
template <typename S>
using WarpQueries = Queries<S::kSize, S::kStrips, S::kKeepQueries>;
template <typename S>
using WarpRunning = Running<S::kSize, S::kStrips>;

// kBlocks blocks of 16 keys and values of a tile. kMasked: the last block ends at num_keys. bias: as
// start_from_bias() wants it.
template <typename T, typename S, int kBlocks, bool kMasked>
__device__ void attend(WarpRunning<S>& running, const WarpQueries<S>& queries, uint32_t tile,
                       int num_keys, const MmaAttention<T>& p, const float* bias, int lane) {
  constexpr int kStrips = S::kStrips;
  const LanePointer<S::kSize> keys = key_pointer<S::kSize>(tile, lane);
  const LanePointer<S::kSize> values = row_pointer<S::kSize>(tile + S::kTileBytes, lane);

  float scores[kStrips][2 * kBlocks][4];
  float tile_maximum[kStrips][2];
  float reference[kStrips][2];
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
    tile_maximum[strip][0] = tile_maximum[strip][1] = -INFINITY;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    if constexpr (S::kBias)
      start_from_bias(scores, bias, p.inverse_scale, block);
    else
      start_from_zero(scores, block);
    multiply_keys<T>(scores, queries, keys, block);
    if (kMasked && block == kBlocks - 1) mask_keys(scores, block, num_keys, lane);
    raise_maximum(tile_maximum, scores, block);
  }
  rescale(running, tile_maximum, reference, p.scale_log2);
  uint32_t packed[kStrips][kBlocks][4];
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    pack_probabilities<T>(packed, scores, reference, p.scale_log2, block);
    multiply_values<T, S::kSize>(running.output, packed, values, block);
  }
}

// attend() for a last tile that is not full, with as many blocks as its num_keys keys take. The
// number is a template parameter since tests inside attend() would cost it registers.
template <typename T, typename S, int kBlocks = 1>
__device__ void attend_last(WarpRunning<S>& running, const WarpQueries<S>& queries, uint32_t tile,
                            int num_keys, const MmaAttention<T>& p, const float* bias, int lane) {
  if constexpr (kBlocks < S::kKeys / 16) {
    if (num_keys > 16 * kBlocks)
      return attend_last<T, S, kBlocks + 1>(running, queries, tile, num_keys, p, bias, lane);
  }
  attend<T, S, kBlocks, true>(running, queries, tile, num_keys, p, bias, lane);
}

template <typename T, typename S, bool kAligned>
__device__ void load_tile(const MmaAttention<T>& p, const T* keys, int length, int index,
                          uint32_t stages, int thread) {
  constexpr int kThreads = S::kThreads;
  const int begin = index * S::kKeys;
  const uint32_t tile = stages + index % 2 * 2 * S::kTileBytes;
#pragma unroll
  for (int part = 0; part < 2; ++part)
    load_rows<T, S::kSize, kAligned, S::kKeys, kThreads>(
        tile + part * S::kTileBytes, keys + begin * p.qkv_stride + part * p.num_heads * p.head_size,
        p.qkv_stride, length - begin, p.head_size, thread);
}

template <typename T, typename S, bool kAligned>
__device__ void compute_unit(const MmaAttention<T>& p, const Unit& unit, uint32_t shared) {
  const unsigned thread = thread_index();
  const int lane = thread % 32;
  const int warp_begin = thread / 32 * 16 * S::kStrips;  // the warp's first query, of the 64
  const uint32_t warp_rows = shared + warp_begin * HeadTile<S::kSize>::kRowBytes;
  const uint32_t stages = shared + S::kQueryBytes;
  const int num_queries = unit.length - unit.query_begin;
  const bool active = warp_begin < num_queries;
  const int num_tiles = (unit.length + S::kKeys - 1) / S::kKeys;
  const T* queries_from = p.qkv + unit.first_row * p.qkv_stride + unit.head * p.head_size;
  const T* keys_from = queries_from + p.num_heads * p.head_size;
  const float* bias = S::kBias ? p.bias + unit.head * p.bias_stride + lane % 4 * 2 -
                                     (unit.query_begin + warp_begin + lane / 4)
                               : nullptr;

  __syncthreads();  // the unit before has been read
  load_rows<T, S::kSize, kAligned, kMmaQueryTile, S::kThreads>(
      shared, queries_from + unit.query_begin * p.qkv_stride, p.qkv_stride, num_queries,
      p.head_size, thread);
  commit_copies();
  load_tile<T, S, kAligned>(p, keys_from, unit.length, 0, stages, thread);
  commit_copies();
  wait_copies<1>();
  __syncthreads();  // the queries are in
  const WarpQueries<S> queries(warp_rows, lane);

  WarpRunning<S> running = nothing_yet<S::kSize, S::kStrips>();
  for (int tile = 0; tile < num_tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // this tile is in, and the one before has been read
    const uint32_t stage = stages + tile % 2 * 2 * S::kTileBytes;
    const int num_keys = unit.length - tile * S::kKeys;
    if (tile + 1 < num_tiles) {
      load_tile<T, S, kAligned>(p, keys_from, unit.length, tile + 1, stages, thread);
      commit_copies();
    }
    if (!active) continue;
    const float* tile_bias = S::kBias ? bias + tile * S::kKeys : nullptr;
    if (num_keys >= S::kKeys)
      attend<T, S, S::kKeys / 16, false>(running, queries, stage, num_keys, p, tile_bias, lane);
    else
      attend_last<T, S>(running, queries, stage, num_keys, p, tile_bias, lane);
  }

#pragma unroll
  for (int strip = 0; strip < S::kStrips; ++strip) {
    const int begin = warp_begin + 16 * strip;
    store_strip<T, S::kSize, kAligned>(
        running.output[strip], warp_rows + 16 * strip * HeadTile<S::kSize>::kRowBytes,
        p.out + (unit.first_row + unit.query_begin + begin) * p.out_stride +
            unit.head * p.head_size,
        p.out_stride, num_queries - begin, p.head_size);
  }
}

// Blocks a multiprocessor to leave registers for; 0: as ptxas thinks best. For sm_120 it would
// rather spill (D = 96) than let fewer than three blocks fit, but of the 100 KB of shared memory
// there each takes more than half. Only for ptxas: hosts ask for the occupancy.
template <typename S>
constexpr int min_blocks() {
  if (S::kBias && S::kSize == 64) return 2;  // ptxas would have three, and spill
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
  return S::kBytes > 50 * 1024 - 1024 ? 1 : 0;  // the driver takes 1 KB a block
#else
  return 0;
#endif
}

template <typename T, typename S, bool kAligned>
__global__ void __launch_bounds__(S::kThreads, min_blocks<S>())
    attention_long_kernel(const MmaAttention<T> p, bool short_list) {
  extern __shared__ __align__(128) char storage[];
  const uint32_t shared = shared_address(storage);
  wait_for_previous();
  for_each_unit(p, short_list,
                [&](const Unit& unit) { compute_unit<T, S, kAligned>(p, unit, shared); });
}

template <typename T, typename S, bool kAligned>
void launch_size(const AttentionArguments& arguments, bool short_list, const DeviceTraits& device,
                 cudaStream_t stream) {
  constexpr auto kernel = attention_long_kernel<T, S, kAligned>;
  launch(kernel, unit_launch(kernel, S::kThreads, S::kBytes, arguments, short_list, device),
         device.overlap, stream,
         mma_parameters<T>(arguments, short_list ? arguments.short_items : arguments.long_items),
         short_list);
}

// Fewer kernels for what is rare: heads that are not aligned, and those, then aligned, with a bias.
template <typename T>
void launch_long(const AttentionArguments& arguments, bool short_list, const DeviceTraits& device,
                 cudaStream_t stream) {
  if (arguments.relative.bias) {
    with_head_size<32, 64, 128, 256>(arguments.head_size, [&](auto size) {
      launch_size<T, Shape<size, true>, true>(arguments, short_list, device, stream);
    });
  } else if (heads_are_aligned(arguments)) {
    with_head_size<16, 32, 48, 64, 80, 96, 128, 256>(arguments.head_size, [&](auto size) {
      launch_size<T, Shape<size, false>, true>(arguments, short_list, device, stream);
    });
  } else {
    with_head_size<32, 64, 128, 256>(arguments.head_size, [&](auto size) {
      launch_size<T, Shape<size, false>, false>(arguments, short_list, device, stream);
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
