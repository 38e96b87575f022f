// Attention in float32, any device, sequences of any length, with and without relative positions.
//
// out = softmax(q · kᵀ · scale) · v with the online softmax, in plain fused multiply-adds; values in
// memory may be of 16 bits. A block
// of 8 warps takes 32 queries of a sequence and one head; a warp has 4 queries. Keys come in tiles
// of 32: a lane computes the scores of one key with the warp's 4 queries, and then the sums of
// D / 32 columns of the output. A lane adds up the probabilities of its own keys; lanes meet at the
// end.
//
// Shared memory, rows of D + 4 floats (so that 8 rows have any 16 bytes in different banks):
//   [q: 32 rows][k: 32 rows][v: 32 rows][probabilities: warps x 32 keys x 4 queries]
// 30 KB for D = 64. For D = 256 it would be 104 KB, too much for some devices: there v takes k's
// place.
//
// Reading shared memory binds: 5 loads of 16 bytes for 16 multiply-adds of q · kᵀ. Rows of relative
// positions are read where they are: neighbouring lanes want neighbouring rows, mostly in the L1 cache.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cuda/attention_mma.cuh"

namespace vlt::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kWarpQueries = 4;
constexpr int kQueries = kWarps * kWarpQueries;  // a block
constexpr int kKeys = 32;                        // a tile: one a lane

template <int D>
struct Layout {
  static constexpr int kStride = D + 4;
  static constexpr int kTile = 32 * kStride;
  static constexpr bool kShareTile = D > 128;  // v takes k's place
  static constexpr int kKeyTile = kTile;
  static constexpr int kValueTile = kShareTile ? kTile : 2 * kTile;
  static constexpr int kProbabilities = kValueTile + kTile;
  static constexpr size_t kBytes = sizeof(float) * (kProbabilities + kWarps * kKeys * kWarpQueries);
};

template <typename T>
struct Relative {
  const float* bias;  // each of distance 0 in the first head, or null
  const int32_t* row;
  const T* key_rows;    // or null
  const T* query_rows;  // or null
  int64_t num_rows;
  int64_t bias_stride;  // from head to head
  int64_t row_stride;   // from row to row; a multiple of 8
  float inverse_scale;  // of the bias, so that it joins sums that are still to be scaled
};

template <typename T>
struct PlainAttention {
  const BatchState* state;
  const AttentionItem* short_items;
  const AttentionItem* long_items;
  const T* qkv;
  int64_t qkv_stride;
  T* out;
  int64_t out_stride;
  int32_t num_heads;
  int32_t head_size;
  float scale_log2;  // scale · log2 e: probabilities are powers of two
  Relative<T> relative;
};

// 32 rows into shared memory; rows from `rows` on and columns from head_size on are zeros.
template <int D, typename T>
__device__ void load_tile(float* tile, const T* source, int64_t stride, int rows, int head_size) {
  for (int i = thread_index(); i < 32 * D; i += kThreads) {
    const int row = i / D;
    const int column = i % D;
    const bool valid = row < rows && column < head_size;
    tile[row * Layout<D>::kStride + column] =
        valid ? to_float(source[row * stride + column]) : 0.0f;
  }
}

// What a warp has of its queries so far; lane l has columns l, l + 32, … of the output and the sum
// of the probabilities of keys l, l + 32, ….
template <int D>
struct Running {
  float maximum[kWarpQueries];  // scaled, in powers of two
  float sum[kWarpQueries];
  float output[kWarpQueries][D / 32];
};

// This lane's key with each of the warp's queries.
template <int D>
__device__ void multiply_key(float (&scores)[kWarpQueries], const float* queries,
                             const float* key) {
#pragma unroll
  for (float& score : scores) score = 0;
#pragma unroll 4
  for (int column = 0; column < D; column += 4) {
    const float4 k = *reinterpret_cast<const float4*>(key + column);
#pragma unroll
    for (int i = 0; i < kWarpQueries; ++i) {
      const float4 q = *reinterpret_cast<const float4*>(queries + i * Layout<D>::kStride + column);
      scores[i] = fmaf(q.x, k.x, scores[i]);
      scores[i] = fmaf(q.y, k.y, scores[i]);
      scores[i] = fmaf(q.z, k.z, scores[i]);
      scores[i] = fmaf(q.w, k.w, scores[i]);
    }
  }
}

__device__ inline float4 load_four(const float* from) {
  return __ldg(reinterpret_cast<const float4*>(from));
}
template <typename T>
__device__ float4 load_four(const T* from) {
  const uint2 pairs = __ldg(reinterpret_cast<const uint2*>(from));
  const float2 low = unpack_pair<T>(pairs.x), high = unpack_pair<T>(pairs.y);
  return {low.x, low.y, high.x, high.y};
}

// A row in shared memory with one of a table, whose columns from D on are zeros.
template <typename T>
__device__ float dot(const float* shared, const T* table, int64_t count) {
  float sum = 0;
#pragma unroll 2
  for (int column = 0; column < count; column += 4) {
    const float4 x = *reinterpret_cast<const float4*>(shared + column);
    const float4 y = load_four(table + column);
    sum = fmaf(x.x, y.x, sum);
    sum = fmaf(x.y, y.y, sum);
    sum = fmaf(x.z, y.z, sum);
    sum = fmaf(x.w, y.w, sum);
  }
  return sum;
}

// Adds what the distances from the warp's queries, the first of which is `distance` before this
// lane's key, say of them.
template <int D, typename T>
__device__ void add_relative(float (&scores)[kWarpQueries], const Relative<T>& relative, int head,
                             int distance, const float* queries, const float* key) {
#pragma unroll 1
  for (int i = 0; i < kWarpQueries; ++i) {
    float sum = 0;
    if (relative.bias)
      sum = __ldg(relative.bias + head * relative.bias_stride + distance - i) *
            relative.inverse_scale;
    if (relative.row) {
      const int64_t at =
          (head * relative.num_rows + __ldg(relative.row + distance - i)) * relative.row_stride;
      if (relative.key_rows)
        sum += dot(queries + i * Layout<D>::kStride, relative.key_rows + at, relative.row_stride);
      if (relative.query_rows) sum += dot(key, relative.query_rows + at, relative.row_stride);
    }
#pragma unroll
    for (int k = 0; k < kWarpQueries; ++k)  // scores stay in registers
      if (k == i) scores[k] += sum;
  }
}

// Turns scores into probabilities relative to the greatest score so far, and scales what is summed
// up down to it. A masked score is -infinity.
template <int D>
__device__ void update_softmax(Running<D>& running, float (&scores)[kWarpQueries],
                               float scale_log2) {
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i) {
    // The rounded product is the reference, and remembered as such: were it worked out anew from
    // the score, earlier sums would be off against later ones by its rounding.
    const float maximum = fmaxf(running.maximum[i], warp_max(scores[i]) * scale_log2);
    const float reference = maximum == -INFINITY ? 0.0f : maximum;
    const float factor = exp2f(running.maximum[i] - reference);
    scores[i] = exp2f(fmaf(scores[i], scale_log2, -reference));
    running.maximum[i] = maximum;
    running.sum[i] = fmaf(running.sum[i], factor, scores[i]);
#pragma unroll
    for (float& output : running.output[i]) output *= factor;
  }
}

// A tile's products are added up on their own first: one running sum over thousands of keys would
// lose several times as much.
template <int D>
__device__ void multiply_values(Running<D>& running, const float* probabilities,
                                const float* values) {
  float tile[kWarpQueries][D / 32] = {};
#pragma unroll 4
  for (int key = 0; key < kKeys; ++key) {
    const float4 p = *reinterpret_cast<const float4*>(probabilities + kWarpQueries * key);
#pragma unroll
    for (int part = 0; part < D / 32; ++part) {
      const float v = values[key * Layout<D>::kStride + 32 * part];
      tile[0][part] = fmaf(p.x, v, tile[0][part]);
      tile[1][part] = fmaf(p.y, v, tile[1][part]);
      tile[2][part] = fmaf(p.z, v, tile[2][part]);
      tile[3][part] = fmaf(p.w, v, tile[3][part]);
    }
  }
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i)
#pragma unroll
    for (int part = 0; part < D / 32; ++part) running.output[i][part] += tile[i][part];
}

template <int D, typename T>
__device__ void store_queries(const PlainAttention<T>& p, const Unit& unit,
                              const Running<D>& running, int warp, int lane) {
#pragma unroll
  for (int i = 0; i < kWarpQueries; ++i) {
    const float inverse = 1.0f / warp_sum(running.sum[i]);
    const int query = unit.query_begin + kWarpQueries * warp + i;
    if (query >= unit.length) continue;
    T* out = p.out + (unit.first_row + query) * p.out_stride + unit.head * p.head_size;
#pragma unroll
    for (int part = 0; part < D / 32; ++part)
      if (32 * part + lane < p.head_size)
        out[32 * part + lane] = from_float<T>(running.output[i][part] * inverse);
  }
}

template <typename T, int D, bool kRelative>
__device__ void compute_unit(const PlainAttention<T>& p, const Unit& unit, float* shared) {
  using L = Layout<D>;
  const int warp = thread_index() / 32;
  const int lane = thread_index() % 32;
  float* const probabilities = shared + L::kProbabilities + warp * kKeys * kWarpQueries;
  const T* const queries_from = p.qkv + unit.first_row * p.qkv_stride + unit.head * p.head_size;
  const T* const keys_from = queries_from + p.num_heads * p.head_size;
  const T* const values_from = keys_from + p.num_heads * p.head_size;

  __syncthreads();  // the unit before has been read
  load_tile<D>(shared, queries_from + unit.query_begin * p.qkv_stride, p.qkv_stride,
               unit.length - unit.query_begin, p.head_size);
  Running<D> running = {};
#pragma unroll
  for (float& maximum : running.maximum) maximum = -INFINITY;
  for (int begin = 0; begin < unit.length; begin += kKeys) {
    const int num_keys = unit.length - begin;
    if (begin > 0) __syncthreads();  // the tile before has been read
    load_tile<D>(shared + L::kKeyTile, keys_from + begin * p.qkv_stride, p.qkv_stride, num_keys,
                 p.head_size);
    if (!L::kShareTile)
      load_tile<D>(shared + L::kValueTile, values_from + begin * p.qkv_stride, p.qkv_stride,
                   num_keys, p.head_size);
    __syncthreads();
    float scores[kWarpQueries];
    multiply_key<D>(scores, shared + warp * kWarpQueries * L::kStride,
                    shared + L::kKeyTile + lane * L::kStride);
    if constexpr (kRelative)
      add_relative<D>(
          scores, p.relative, unit.head, begin + lane - (unit.query_begin + warp * kWarpQueries),
          shared + warp * kWarpQueries * L::kStride, shared + L::kKeyTile + lane * L::kStride);
#pragma unroll
    for (float& score : scores)
      if (lane >= num_keys) score = -INFINITY;
    update_softmax(running, scores, p.scale_log2);
    *reinterpret_cast<float4*>(probabilities + kWarpQueries * lane) = {scores[0], scores[1],
                                                                       scores[2], scores[3]};
    __syncwarp();
    if (L::kShareTile) {
      __syncthreads();  // the keys have been read
      load_tile<D>(shared + L::kValueTile, values_from + begin * p.qkv_stride, p.qkv_stride,
                   num_keys, p.head_size);
      __syncthreads();
    }
    multiply_values(running, probabilities, shared + L::kValueTile + lane);
  }
  store_queries(p, unit, running, warp, lane);
}

// Units: the heads of the first 32 queries of the first item, of the next 32, …; long items first.
template <typename T, int D, bool kRelative>
__global__ void __launch_bounds__(kThreads, 2)
    attention_fp32_kernel(const __grid_constant__ PlainAttention<T> p) {
  extern __shared__ __align__(16) float shared[];
  wait_for_previous();

  constexpr int kLongTiles = kMmaQueryTile / kQueries;  // of an item
  constexpr int kShortTiles = kShortLength / kQueries;
  const int num_long = p.state->num_long_items * kLongTiles;
  const int first_short = p.state->short_begin[0];
  const int num_short = (p.state->short_begin[kNumShortClasses] - first_short) * kShortTiles;
  for (int i = blockIdx.x; i < (num_long + num_short) * p.num_heads; i += gridDim.x) {
    const int tile = i / p.num_heads;
    const bool is_long = tile < num_long;
    const int short_tile = tile - num_long;
    const AttentionItem item = is_long ? p.long_items[tile / kLongTiles]
                                       : p.short_items[first_short + short_tile / kShortTiles];
    const int part = is_long ? tile % kLongTiles : short_tile % kShortTiles;
    const Unit unit = {item.first_row, item.length, item.query_begin + part * kQueries,
                       i % p.num_heads};
    if (unit.query_begin < unit.length) compute_unit<T, D, kRelative>(p, unit, shared);
  }
}

template <typename T>
Relative<T> relative_parameters(const AttentionArguments& arguments) {
  const RelativeWeights& r = arguments.relative;
  const int64_t zero = distance_zero(r.num_distances);
  const auto* bias = static_cast<const float*>(r.bias);
  return {bias ? bias + zero : nullptr,
          r.row ? r.row + zero : nullptr,
          static_cast<const T*>(r.key_rows),
          static_cast<const T*>(r.query_rows),
          r.num_rows,
          distance_stride(r.num_distances),
          relative_row_stride(arguments.head_size),
          1 / arguments.scale};
}

template <typename T, int D, bool kRelative>
void launch_size(const AttentionArguments& arguments, const DeviceTraits& device,
                 cudaStream_t stream) {
  constexpr auto kernel = attention_fp32_kernel<T, D, kRelative>;
  LaunchShape shape;
  shape.block = dim3(kThreads);
  shape.shared_bytes = Layout<D>::kBytes;
  allow_shared_bytes(kernel, shape.shared_bytes);
  int blocks = 0;
  check(
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, shape.shared_bytes),
      "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  const int64_t resident = int64_t{std::max(blocks, 1)} * device.num_multiprocessors;
  const int64_t units = (max_long_items(arguments.max_rows) * kMmaQueryTile +
                         max_short_items(arguments.max_sequences) * kShortLength) /
                        kQueries * arguments.num_heads;
  if (units == 0) return;
  shape.grid = dim3(static_cast<unsigned>(std::min(resident, units)));
  const PlainAttention<T> parameters = {arguments.state,
                                        arguments.short_items,
                                        arguments.long_items,
                                        static_cast<const T*>(arguments.qkv),
                                        arguments.qkv_stride,
                                        static_cast<T*>(arguments.out),
                                        arguments.out_stride,
                                        arguments.num_heads,
                                        arguments.head_size,
                                        arguments.scale * kLog2E,
                                        relative_parameters<T>(arguments)};
  launch(kernel, shape, device.overlap, stream, parameters);
}

template <typename T, bool kRelative>
void launch_type(const AttentionArguments& arguments, const DeviceTraits& device,
                 cudaStream_t stream) {
  with_head_size<32, 64, 128, 256>(arguments.head_size, [&](auto size) {
    launch_size<T, size, kRelative>(arguments, device, stream);
  });
}

}  // namespace

void attention_fp32(const AttentionArguments& arguments, const DeviceTraits& device,
                    cudaStream_t stream) {
  if (arguments.dtype == DType::kFloat16) return launch_type<half, true>(arguments, device, stream);
  if (arguments.dtype == DType::kBFloat16)
    return launch_type<bfloat16, true>(arguments, device, stream);
  if (arguments.relative.bias || arguments.relative.row)
    return launch_type<float, true>(arguments, device, stream);
  launch_type<float, false>(arguments, device, stream);
}

}  // namespace vlt::cuda
