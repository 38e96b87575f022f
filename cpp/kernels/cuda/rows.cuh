// What the memory-bound kernels share: rows as 16-byte chunks in registers, sums over the lanes of a
// row, layer normalisation, and the search for a row's sequence.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/rows.h"

namespace vlt::cuda {

constexpr int kRowThreads = 128;  // of a block
constexpr int kRowWarps = kRowThreads / 32;
constexpr int kAnyRowBlocks = 8;  // on a multiprocessor, of kernels for rows of any width

// ---- Chunks: N elements that are 16 bytes, or a single one where rows are not made of chunks.

template <typename T>
constexpr int kChunkElements = 16 / static_cast<int>(sizeof(T));

template <typename T, int N>
using Chunk = std::conditional_t<N == 1, T, uint4>;

template <typename T, int N>
__device__ inline void unpack(const Chunk<T, N>& chunk, float (&x)[N]) {
  static_assert(N == 1 || N == kChunkElements<T>);
  if constexpr (N == 1) {
    x[0] = to_float(chunk);
  } else if constexpr (sizeof(T) == 4) {
    x[0] = __uint_as_float(chunk.x);
    x[1] = __uint_as_float(chunk.y);
    x[2] = __uint_as_float(chunk.z);
    x[3] = __uint_as_float(chunk.w);
  } else {
    const uint32_t pairs[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack_pair<T>(pairs[i]);
      x[2 * i] = pair.x;
      x[2 * i + 1] = pair.y;
    }
  }
}

template <typename T, int N>
__device__ inline Chunk<T, N> pack(const float (&x)[N]) {
  static_assert(N == 1 || N == kChunkElements<T>);
  if constexpr (N == 1) {
    return from_float<T>(x[0]);
  } else if constexpr (sizeof(T) == 4) {
    return {__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]),
            __float_as_uint(x[3])};
  } else {
    return {pack_pair<T>(x[0], x[1]), pack_pair<T>(x[2], x[3]), pack_pair<T>(x[4], x[5]),
            pack_pair<T>(x[6], x[7])};
  }
}

// Of rows that are read once: past the L1 cache, where position rows are to stay.
template <typename T, int N>
__device__ inline Chunk<T, N> load_once(const T* from) {
  return __ldcg(reinterpret_cast<const Chunk<T, N>*>(from));
}

// A chunk to rows of any alignment: those that a caller owns need not have more than an element's.
template <typename T>
__device__ inline void store_chunk(T* to, const uint4& chunk, bool aligned) {
  if (aligned) {
    *reinterpret_cast<uint4*>(to) = chunk;
    return;
  }
  const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      to[i] = __uint_as_float(words[i]);
    } else {
      auto* halves = reinterpret_cast<uint16_t*>(to);
      halves[2 * i] = static_cast<uint16_t>(words[i]);
      halves[2 * i + 1] = static_cast<uint16_t>(words[i] >> 16);
    }
  }
}

// An element of rows whose type is known at run time.
__device__ inline void store_element(void* rows, DType dtype, int64_t index, float x) {
  if (dtype == DType::kFloat32)
    static_cast<float*>(rows)[index] = x;
  else if (dtype == DType::kFloat16)
    static_cast<half*>(rows)[index] = from_float<half>(x);
  else
    static_cast<bfloat16*>(rows)[index] = from_float<bfloat16>(x);
}

// A pointer that was read from memory: tells the compiler which memory it points into.
template <typename T>
__device__ inline T* in_global_memory(T* pointer) {
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}

__host__ __device__ inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// Rows of `cols` elements that consist of aligned chunks.
template <typename T>
__host__ __device__ inline bool made_of_chunks(const void* rows, int64_t stride, int32_t cols) {
  return is_aligned(rows) && stride % kChunkElements<T> == 0 && cols % kChunkElements<T> == 0;
}

// Sum over each group of kLanes neighbouring lanes, in an order that is always the same.
template <int kLanes>
__device__ inline float lanes_sum(float x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

// ---- Layer normalisation of rows in registers

// How a warp holds rows: kLanes lanes a row, chunk c of lane l being chunk l + c · kLanes of the
// row. The first kFull chunks of every lane exist, the others only where the row is that long.
// A lane takes kRows rows at once: one, but in layernorm_by_rows(). Their number does not influence
// the bits.
template <typename T, int lanes, int chunks, int full, int rows = 1>
struct RowShape {
  static constexpr int kElements = kChunkElements<T>;
  static constexpr int kLanes = lanes;
  static constexpr int kChunks = chunks;
  static constexpr int kFull = full;
  static constexpr int kGroups = 32 / lanes;  // lane groups of a warp
  static constexpr int kRows = rows;
  static constexpr int kWarpRows = kGroups * kRows;
  // Registers that a chunk of each row takes on its way, and its addresses.
  static constexpr int kLoadRegisters = rows * chunks * 4 + 6;
  // Blocks that a multiprocessor holds, and that a grid has for each, where a lane has `more`
  // registers beside the elements of its rows and some 42 for everything else.
  static constexpr int blocks(int more) {
    return 65536 / kRowThreads / (rows * chunks * kElements + 42 + more);
  }

  // The rows of a warp are neighbours; row i of this lane is first + row_offset(i).
  __device__ static int row_offset(int i) {
    return i * kGroups + static_cast<int>(threadIdx.x) % 32 / kLanes;
  }
  __device__ static int chunk(int c) { return static_cast<int>(threadIdx.x) % kLanes + c * kLanes; }
  __device__ static int column(int c) { return chunk(c) * kElements; }
  __device__ static bool exists(int c, int num_chunks) {
    return c < kFull || chunk(c) < num_chunks;
  }
};

// Rows as they are in memory.
template <typename Shape>
using Chunks = uint4[Shape::kRows][Shape::kChunks];

// row_of(i): where row i of this lane begins.
template <typename T, typename Shape, typename RowOf>
__device__ inline void load_rows(int num_chunks, const RowOf& row_of, Chunks<Shape>& chunks) {
#pragma unroll
  for (int i = 0; i < Shape::kRows; ++i) {
    const T* row = row_of(i);
#pragma unroll
    for (int c = 0; c < Shape::kChunks; ++c) {
      chunks[i][c] = make_uint4(0, 0, 0, 0);
      if (Shape::exists(c, num_chunks))
        chunks[i][c] = load_once<T, Shape::kElements>(row + Shape::column(c));
    }
  }
}

template <typename Shape>
using Rows = float[Shape::kRows][Shape::kChunks][Shape::kElements];

template <typename T, typename Shape>
__device__ inline void unpack_rows(const Chunks<Shape>& chunks, Rows<Shape>& x) {
#pragma unroll
  for (int i = 0; i < Shape::kRows; ++i)
#pragma unroll
    for (int c = 0; c < Shape::kChunks; ++c) unpack<T>(chunks[i][c], x[i][c]);
}

// Subtracts the mean (in two passes: no cancellation) and divides by the standard deviation.
// Elements of chunks that do not exist must be 0.
template <typename Shape>
__device__ inline void standardize(Rows<Shape>& x, int32_t cols, float epsilon) {
  const float reciprocal = 1.0f / static_cast<float>(cols);
  const int num_chunks = cols / Shape::kElements;
  float mean[Shape::kRows], scale[Shape::kRows];
#pragma unroll
  for (int i = 0; i < Shape::kRows; ++i) {
    float sum = 0;
#pragma unroll
    for (int c = 0; c < Shape::kChunks; ++c)
#pragma unroll
      for (int e = 0; e < Shape::kElements; ++e) sum += x[i][c][e];
    mean[i] = sum;
  }
#pragma unroll
  for (int i = 0; i < Shape::kRows; ++i) mean[i] = lanes_sum<Shape::kLanes>(mean[i]) * reciprocal;
#pragma unroll
  for (int i = 0; i < Shape::kRows; ++i) {
    float squares = 0;
#pragma unroll
    for (int c = 0; c < Shape::kChunks; ++c)
#pragma unroll
      for (int e = 0; e < Shape::kElements; ++e) {
        x[i][c][e] = Shape::exists(c, num_chunks) ? x[i][c][e] - mean[i] : 0.0f;
        squares = fmaf(x[i][c][e], x[i][c][e], squares);
      }
    scale[i] = squares;
  }
#pragma unroll
  for (int i = 0; i < Shape::kRows; ++i)
    scale[i] = __frsqrt_rn(fmaf(lanes_sum<Shape::kLanes>(scale[i]), reciprocal, epsilon));
#pragma unroll
  for (int i = 0; i < Shape::kRows; ++i)
#pragma unroll
    for (int c = 0; c < Shape::kChunks; ++c)
#pragma unroll
      for (int e = 0; e < Shape::kElements; ++e) x[i][c][e] *= scale[i];
}

// Calls store(i, column, elements) with each chunk of norm(x) that exists; constants as in
// norm_constants.cuh.
template <typename Shape, typename Constants, typename Store>
__device__ inline void store_norm(Rows<Shape>& x, const Constants& constants, int32_t cols,
                                  float epsilon, const Store& store) {
  standardize<Shape>(x, cols, epsilon);
#pragma unroll
  for (int c = 0; c < Shape::kChunks; ++c) {
    if (!Shape::exists(c, cols / Shape::kElements)) continue;
    const int column = Shape::column(c);
    float weight[Shape::kElements], bias[Shape::kElements];
    constants.get(c, weight, bias);
#pragma unroll
    for (int i = 0; i < Shape::kRows; ++i) {
#pragma unroll
      for (int e = 0; e < Shape::kElements; ++e) x[i][c][e] = fmaf(x[i][c][e], weight[e], bias[e]);
      store(i, column, x[i][c]);
    }
  }
}

// The same for one row of any width and alignment by a warp, which reads it three times: an element
// must still be there when it is stored.
template <typename Load, typename Store>
__device__ inline void norm_any_row(const Norm& norm, int32_t cols, const Load& load,
                                    const Store& store) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float reciprocal = 1.0f / static_cast<float>(cols);
  float sum = 0, squares = 0;
  for (int j = lane; j < cols; j += 32) sum += load(j);
  const float mean = warp_sum(sum) * reciprocal;
  for (int j = lane; j < cols; j += 32) {
    const float centred = load(j) - mean;
    squares = fmaf(centred, centred, squares);
  }
  const float scale = __frsqrt_rn(fmaf(warp_sum(squares), reciprocal, norm.epsilon));
#pragma unroll 1
  for (int j = lane; j < cols; j += 32)
    store(j, fmaf((load(j) - mean) * scale, norm.weight[j], norm.bias[j]));
}

// ---- Launching

__device__ inline int warp_in_grid() {
  return static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
}
__device__ inline int warps_in_grid() { return static_cast<int>(gridDim.x * (blockDim.x / 32)); }

// Warps stride over the rows, so that a bound far above the true number costs little: no more
// blocks than the device holds at once, of which none then starts late.
inline LaunchShape row_launch(int64_t max_rows, int warp_rows, int blocks_held,
                              const DeviceTraits& device) {
  const int64_t block_rows = int64_t{warp_rows} * kRowWarps;
  const int64_t needed = std::max<int64_t>(1, (max_rows + block_rows - 1) / block_rows);
  const int64_t held = int64_t{device.num_multiprocessors} * blocks_held;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(std::min(needed, held)));
  shape.block = dim3(kRowThreads);
  return shape;
}

// Calls use(RowShape) with the tightest shape for rows of this many chunks; false: none is so wide.
template <typename T, typename Use>
bool with_row_shape(int num_chunks, const Use& use) {
  if (num_chunks <= 16)
    use(RowShape<T, 16, 1, 0>());
  else if (num_chunks <= 32)
    use(RowShape<T, 16, 2, 1>());
  else if (num_chunks <= 48)
    use(RowShape<T, 16, 3, 2>());
  else if (num_chunks <= 64)
    use(RowShape<T, 32, 2, 1>());
  else if (num_chunks <= 96)
    use(RowShape<T, 32, 3, 2>());
  else if (num_chunks <= 128)
    use(RowShape<T, 32, 4, 3>());
  else if (num_chunks <= 192)
    use(RowShape<T, 32, 6, 4>());
  else if (num_chunks <= 256)
    use(RowShape<T, 32, 8, 6>());
  else
    return false;
  return true;
}

// Calls use(T()) with the element type.
template <typename Use>
void with_type(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::kFloat32:
      return use(float());
    case DType::kFloat16:
      return use(half());
    case DType::kBFloat16:
      return use(bfloat16());
  }
}

// ---- Errors in the input

// The first report of a run stays. The host reads it when the stream is done, so the one that wins
// may write the rest afterwards.
__device__ inline void report(InputError* error, InputError::Kind kind, int32_t index,
                              int32_t value) {
  if (atomicCAS(&error->kind, InputError::kNone, kind) != InputError::kNone) return;
  error->index = index;
  error->value = value;
}

}  // namespace vlt::cuda
