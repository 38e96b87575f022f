// What attention_short.cu, attention_long.cu and attention_disentangled.cu share: tiles of one head's
// rows in shared memory, the fragments of both products, q · kᵀ and probabilities · v, and the online
// softmax. attention_fp32.cu takes thread_index() alone.
//
// A warp works on strips of 16 queries against blocks of 16 keys. With g = lane / 4, t = lane % 4:
//   scores[strip][n]: keys 8n + 2t and the next, of queries g (elements 0, 1) and g + 8 (2, 3)
//   output[strip][n]: the same of columns
// Two neighbouring score tiles, packed, are the left operand of the second product, so that
// probabilities never leave their registers. That product has one more column, of ones: its result
// is the sum of the probabilities as rounded, so the weights that v is averaged with add up to one.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/ptx_sm80.cuh"

namespace vlt::cuda {

template <typename T>
struct MmaAttention {
  const BatchState* state;
  const AttentionItem* items;
  const T* qkv;
  int64_t qkv_stride;
  T* out;
  int64_t out_stride;
  int32_t num_heads;
  int32_t head_size;
  float scale_log2;     // scale · log2 e: probabilities are powers of two
  const float* bias;    // of distance 0 in the first head, or null
  int64_t bias_stride;  // from head to head
  float inverse_scale;  // of the bias, so that it joins sums that are still to be scaled
  bool plan_is_settled;
};

template <typename T>
MmaAttention<T> mma_parameters(const AttentionArguments& arguments, const AttentionItem* items) {
  const RelativeWeights& relative = arguments.relative;
  const auto* bias = static_cast<const float*>(relative.bias);
  return {arguments.state,
          items,
          static_cast<const T*>(arguments.qkv),
          arguments.qkv_stride,
          static_cast<T*>(arguments.out),
          arguments.out_stride,
          arguments.num_heads,
          arguments.head_size,
          arguments.scale * kLog2E,
          bias ? bias + distance_zero(relative.num_distances) : nullptr,
          distance_stride(relative.num_distances),
          1 / arguments.scale,
          arguments.plan_is_settled};
}

// Short sequences by the kernel for long ones: for heads that attention_short_mma's cannot take.
void attention_short_in_tiles(const AttentionArguments&, const DeviceTraits&, cudaStream_t);

// ---- Threads

// threadIdx.x. For sm_100 and later each call reads it anew, so that what is worked out from it
// stays in the loop that the call is in. Otherwise the compiler moves all of that in front of the
// loop over units, and ptxas, for these devices alone, keeps it in registers throughout (70 more in
// attention_long_kernel for D = 128) and spills. Code for earlier devices does not depend on it.
__device__ inline unsigned thread_index() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  __builtin_assume(thread < 1024);  // as the compiler knows of threadIdx.x
  return thread;
#else
  return threadIdx.x;
#endif
}

// ---- Tiles in shared memory

__device__ inline void store_shared(uint32_t shared, uint32_t value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(shared), "r"(value) : "memory");
}
__device__ inline void store_shared(uint32_t shared, const uint4& value) {
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(shared), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}
__device__ inline uint4 load_shared(uint32_t shared) {
  uint4 value;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(shared)
               : "memory");
  return value;
}

// Rows of D 2-byte elements without gaps, in chunks of 16 bytes. Eight rows that follow each other
// have any one chunk in eight different groups of banks: chunks of a row are exchanged by XOR with
// row % 8 where a row is a multiple of 128 bytes, with fewer bits of it where rows are shorter or
// where their length itself moves the banks on (D = 48: 6 chunks, 1 bit).
template <int D>
struct HeadTile {
  static constexpr int kChunks = D / 8;
  static constexpr int kRowBytes = 2 * D;
  static constexpr int kExchange = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : 2;
  static_assert(D % 16 == 0);

  __device__ static int exchange(int row) { return row % 8 / (8 / kExchange); }
  __device__ static int offset(int row, int chunk) {
    return row * kRowBytes + (chunk ^ exchange(row)) * 16;
  }
};

// Eight elements of a row, zeros from `count` on.
template <typename T>
__device__ uint4 gather_chunk(const T* source, int count) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float low = 2 * i < count ? to_float(source[2 * i]) : 0.0f;
    const float high = 2 * i + 1 < count ? to_float(source[2 * i + 1]) : 0.0f;
    words[i] = pack_pair<T>(low, high);
  }
  return {words[0], words[1], words[2], words[3]};
}

// kThreads threads fill kRows rows; those from `rows` on, and columns from head_size on, are zeros,
// so that nothing of another sequence enters. Where heads are aligned the copies are asynchronous.
template <typename T, int D, bool kAligned, int kRows, int kThreads>
__device__ void load_rows(uint32_t tile, const T* source, int64_t stride, int rows, int head_size,
                          int thread) {
  static_assert(kRows * HeadTile<D>::kChunks % kThreads == 0);
#pragma unroll 4  // not wholly: the addresses would take the registers of running sums
  for (int i = 0; i < kRows * HeadTile<D>::kChunks / kThreads; ++i) {
    const int row = (i * kThreads + thread) / HeadTile<D>::kChunks;
    const int chunk = (i * kThreads + thread) % HeadTile<D>::kChunks;
    const bool valid = row < rows && 8 * chunk < head_size;
    const T* from = valid ? source + row * stride + 8 * chunk : source;
    const uint32_t to = tile + HeadTile<D>::offset(row, chunk);
    if constexpr (kAligned)
      copy16_async(to, from, valid);
    else
      store_shared(to, gather_chunk(from, valid ? head_size - 8 * chunk : 0));
  }
}

// Where a lane points matrix loads in a tile of a multiple of 16 rows: at one row of each block of
// 16, in the even or the odd chunk of each pair.
template <int D>
class LanePointer {
 public:
  __device__ LanePointer(uint32_t tile, int row, int odd)
      : row_(tile + row * HeadTile<D>::kRowBytes),
        chunk_bits_((odd ^ HeadTile<D>::exchange(row)) * 16) {}

  __device__ uint32_t at(int block, int pair) const {
    // XOR only among the chunks that are exchanged: the rest is an immediate of the instruction.
    constexpr int kGroupBytes = 16 * HeadTile<D>::kExchange;
    return row_ + ((32 * pair % kGroupBytes) ^ chunk_bits_) +
           32 * pair / kGroupBytes * kGroupBytes + block * 16 * HeadTile<D>::kRowBytes;
  }

 private:
  uint32_t row_;
  uint32_t chunk_bits_;
};

// Matrices by rows 0-7 and 8-15 of the even chunk, then of the odd: queries as left operand;
// values, transposed, as right operand.
template <int D>
__device__ LanePointer<D> row_pointer(uint32_t tile, int lane) {
  return {tile, lane % 16, lane / 16};
}
// Matrices by the even and the odd chunk of rows 0-7, then of rows 8-15: keys as right operand.
template <int D>
__device__ LanePointer<D> key_pointer(uint32_t tile, int lane) {
  return {tile, lane % 8 + lane / 16 * 8, lane / 8 % 2};
}

// ---- Products of a warp

// The queries of a warp's strips, kept in registers or read from the tile each time.
template <int D, int kStrips, bool kKeep>
class Queries {
 public:
  __device__ Queries(uint32_t tile, int lane) : pointer_(row_pointer<D>(tile, lane)) {
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
      for (int pair = 0; pair < kKept; ++pair)
        load_matrices(kept_[strip][pair], pointer_.at(strip, pair));
  }

  __device__ void fragment(uint32_t (&a)[4], int strip, int pair) const {
    if constexpr (kKeep) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = kept_[strip][pair][i];
    } else {
      load_matrices(a, pointer_.at(strip, pair));
    }
  }

 private:
  LanePointer<D> pointer_;
  static constexpr int kKept = kKeep ? D / 16 : 0;
  uint32_t kept_[kStrips][kKeep ? D / 16 : 1][4];
};

// What the scores of one block of 16 keys start from.
template <int kStrips, int kTiles>
__device__ void start_from_zero(float (&scores)[kStrips][kTiles][4], int block) {
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int i = 0; i < 8; ++i) scores[strip][2 * block + i / 4][i % 4] = 0;
}

// The same where distances have a bias. bias: that of this lane's first key of the tile and its first
// query. A query and a key that both lie 8 further on are as far apart, so few are different.
template <int kStrips, int kTiles>
__device__ void start_from_bias(float (&scores)[kStrips][kTiles][4], const float* bias,
                                float inverse_scale, int block) {
  constexpr int kBehind = 2 * kStrips - 1;  // eights of queries behind the first
  float values[kBehind + 2][2];
#pragma unroll
  for (int i = 0; i < 2 * (kBehind + 2); ++i)
    values[i / 2][i % 2] = __ldg(bias + 16 * block + 8 * (i / 2 - kBehind) + i % 2) * inverse_scale;
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int i = 0; i < 8; ++i)
      scores[strip][2 * block + i / 4][i % 4] =
          values[kBehind + i / 4 - 2 * strip - i % 4 / 2][i % 2];
}

// Adds the products of every strip with one block of 16 keys.
template <typename T, int D, int kStrips, int kTiles, bool kKeep>
__device__ void multiply_keys(float (&scores)[kStrips][kTiles][4],
                              const Queries<D, kStrips, kKeep>& queries, const LanePointer<D>& keys,
                              int block) {
#pragma unroll
  for (int pair = 0; pair < D / 16; ++pair) {
    uint32_t b[4];
    load_matrices(b, keys.at(block, pair));
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
      uint32_t a[4];
      queries.fragment(a, strip, pair);
      mma_16x8x16<T>(scores[strip][2 * block], a, b[0], b[1]);
      mma_16x8x16<T>(scores[strip][2 * block + 1], a, b[2], b[3]);
    }
  }
}

// Keys from `num_keys` on get -infinity.
template <int kStrips, int kTiles>
__device__ void mask_keys(float (&scores)[kStrips][kTiles][4], int block, int num_keys, int lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int tile = 2 * block + i / 4;
    const bool masked = 8 * tile + lane % 4 * 2 + i % 2 >= num_keys;
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip)
      if (masked) scores[strip][tile][i % 4] = -INFINITY;
  }
}

// The greatest score of this lane's part of queries g and g + 8.
template <int kStrips, int kTiles>
__device__ void raise_maximum(float (&maximum)[kStrips][2],
                              const float (&scores)[kStrips][kTiles][4], int block) {
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int i = 0; i < 8; ++i)
      maximum[strip][i % 4 / 2] =
          fmaxf(maximum[strip][i % 4 / 2], scores[strip][2 * block + i / 4][i % 4]);
}

// Of the four lanes that share a query.
__device__ inline float quad_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// Packed probabilities of one block, relative to `reference`: the greatest score times scale_log2.
template <typename T, int kStrips, int kTiles>
__device__ void pack_probabilities(uint32_t (&packed)[kStrips][kTiles / 2][4],
                                   const float (&scores)[kStrips][kTiles][4],
                                   const float (&reference)[kStrips][2], float scale_log2,
                                   int block) {
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* pair = &scores[strip][2 * block + i / 2][i % 2 * 2];
      packed[strip][block][i] =
          pack_pair<T>(exp2_fast(fmaf(pair[0], scale_log2, -reference[strip][i % 2])),
                       exp2_fast(fmaf(pair[1], scale_log2, -reference[strip][i % 2])));
    }
}

// Adds the products of one block's probabilities with its 16 values and with the ones.
template <typename T, int D, int kStrips, int kBlocks>
__device__ void multiply_values(float (&output)[kStrips][D / 8 + 1][4],
                                const uint32_t (&packed)[kStrips][kBlocks][4],
                                const LanePointer<D>& values, int block) {
#pragma unroll
  for (int pair = 0; pair < D / 16; ++pair) {
    uint32_t b[4];
    load_matrices_transposed(b, values.at(block, pair));
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
      mma_16x8x16<T>(output[strip][2 * pair], packed[strip][block], b[0], b[1]);
      mma_16x8x16<T>(output[strip][2 * pair + 1], packed[strip][block], b[2], b[3]);
    }
  }
  const uint32_t ones = pack_pair<T>(1.0f, 1.0f);
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
    mma_16x8x16<T>(output[strip][D / 8], packed[strip][block], ones, ones);
}

// ---- The online softmax

// What a warp has of its queries so far. output: products and, in the last tile, sums of
// probabilities relative to `maximum`.
template <int D, int kStrips>
struct Running {
  float maximum[kStrips][2];
  float output[kStrips][D / 8 + 1][4];
};

template <int D, int kStrips>
__device__ Running<D, kStrips> nothing_yet() {
  Running<D, kStrips> running = {};
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
    running.maximum[strip][0] = running.maximum[strip][1] = -INFINITY;
  return running;
}

// Raises the maxima to those of the tile's scores too and scales what is there down to them.
// Writes each maximum times scale_log2, or 0 where every score is -infinity so far.
template <int D, int kStrips>
__device__ void rescale(Running<D, kStrips>& running, const float (&tile_maximum)[kStrips][2],
                        float (&reference)[kStrips][2], float scale_log2) {
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip)
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

// ---- Output

// Divides a strip by its sums and writes its first `rows` rows. It goes through the 16 shared rows
// that held the strip's queries, which no other warp reads, so that rows of `out` are written in
// 16-byte pieces, neighbours by neighbouring lanes.
template <typename T, int D, bool kAligned>
__device__ void store_strip(const float (&output)[D / 8 + 1][4], uint32_t staging, T* out,
                            int64_t stride, int rows, int head_size) {
  const int lane = thread_index() % 32;
  const float inverse[2] = {1.0f / output[D / 8][0], 1.0f / output[D / 8][2]};
  __syncwarp();
#pragma unroll
  for (int chunk = 0; chunk < D / 8; ++chunk)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      store_shared(
          staging + HeadTile<D>::offset(lane / 4 + 8 * i, chunk) + lane % 4 * 4,
          pack_pair<T>(output[chunk][2 * i] * inverse[i], output[chunk][2 * i + 1] * inverse[i]));
  __syncwarp();
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    const int row = (32 * i + lane) / HeadTile<D>::kChunks;
    const int chunk = (32 * i + lane) % HeadTile<D>::kChunks;
    if (row >= rows || 8 * chunk >= head_size) continue;
    const uint4 value = load_shared(staging + HeadTile<D>::offset(row, chunk));
    T* to = out + row * stride + 8 * chunk;
    if constexpr (kAligned) {
      *reinterpret_cast<uint4*>(to) = value;
    } else {
      const uint32_t words[4] = {value.x, value.y, value.z, value.w};
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const float2 both = unpack_pair<T>(words[k / 2]);
        if (8 * chunk + k < head_size) to[k] = from_float<T>(k % 2 == 0 ? both.x : both.y);
      }
    }
  }
}

// ---- Work in tiles of kMmaQueryTile queries

// A sequence's queries from `query_begin` on, in one head.
struct Unit {
  int32_t first_row;  // of the sequence
  int32_t length;
  int32_t query_begin;
  int32_t head;
};

// Calls compute(unit) with the block's share of a list's units. An item of the long list is one tile
// of queries, an item of the short list is up to two.
template <typename T, typename Compute>
__device__ void for_each_unit(const MmaAttention<T>& p, bool short_list, const Compute& compute) {
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
    if (unit.query_begin < unit.length) compute(unit);
  }
}

// As many blocks as the device holds, or as there may be units.
template <typename... Parameters>
LaunchShape unit_launch(void (*kernel)(Parameters...), int threads, size_t shared_bytes,
                        const AttentionArguments& arguments, bool short_list,
                        const DeviceTraits& device) {
  LaunchShape shape;
  shape.block = dim3(static_cast<unsigned>(threads));
  shape.shared_bytes = shared_bytes;
  allow_shared_bytes(kernel, shared_bytes);
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  const int64_t resident = int64_t{std::max(blocks, 1)} * device.num_multiprocessors;
  const int64_t items =
      short_list ? max_short_items(arguments.max_sequences) * kShortLength / kMmaQueryTile
                 : max_long_items(arguments.max_rows);
  shape.grid = dim3(static_cast<unsigned>(std::min(resident, items * arguments.num_heads)));
  return shape;
}

// ---- Choosing a kernel

// Calls function(std::integral_constant<int, D>) with the first D of the list that holds the head.
template <int D, int... kMore, typename Function>
void with_head_size(int head_size, const Function& function) {
  if constexpr (sizeof...(kMore) > 0) {
    if (head_size > D) return with_head_size<kMore...>(head_size, function);
  }
  function(std::integral_constant<int, D>{});
}

}  // namespace vlt::cuda
