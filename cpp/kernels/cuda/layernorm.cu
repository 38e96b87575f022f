// Layer normalisation of rows: out = (x - mean) / sqrt(variance + epsilon) · weight + bias.
//
// 16 or 32 lanes hold a row in registers as 16-byte chunks (384 columns of float16 are 48 chunks:
// 16 lanes × 3, none idle). Each row is read once and written once, and nothing goes through shared
// memory, so a kernel is bound by 2 · T · H elements of memory: 16,384 rows of 768 float16 are 50 MB,
// 12 µs at 4.2 TB/s. The grid is what the device holds at once, and a warp asks for its next rows
// before it works on those it has: 24 warps with 1.5 KB each keep 36 KB a multiprocessor on their
// way all the time; 4.2 TB/s for 0.8 µs over 132 of them are 26 KB, half of that reads. The weights
// (8 bytes a column) come from the L1 cache, once for all rows that a lane takes at once.
// Mean, then centred variance, in float32.
#include "kernels/cuda/norm_constants.cuh"
#include "kernels/cuda/row_queue.cuh"

namespace vlt::cuda {
namespace {

// Rows that a lane takes at once: more share the weights and let sums over lanes overlap, fewer
// leave registers for more warps. See layernorm_variant().
constexpr int kLaneRows = 1;

// Where rows go: of T, or of float32 that hold what T would.
template <typename T>
struct Destination {
  void* rows;
  int64_t stride;
  bool wide;
  bool aligned;

  __device__ explicit Destination(const LayerNormArguments& args)
      : rows(args.indirect_out ? *args.indirect_out : args.out),
        stride(args.indirect_out ? args.cols : args.out_stride),
        wide(sizeof(T) == 2 && args.out_dtype == DType::kFloat32),
        aligned(is_aligned(rows)) {}

  template <int N>
  __device__ void store(int64_t row, int column, const float (&x)[N]) const {
    const uint4 chunk = pack<T>(x);
    const int64_t at = row * stride + column;
    if (!wide) return store_chunk(in_global_memory(static_cast<T*>(rows)) + at, chunk, aligned);
    float rounded[N];
    unpack<T>(chunk, rounded);
    float* to = in_global_memory(static_cast<float*>(rows)) + at;
#pragma unroll
    for (int e = 0; e < N; e += 4)
      store_chunk(to + e, pack<float>({rounded[e], rounded[e + 1], rounded[e + 2], rounded[e + 3]}),
                  aligned);
  }
  __device__ void store(int64_t row, int column, float x) const {
    const T rounded = from_float<T>(x);
    const int64_t at = row * stride + column;
    if (wide)
      static_cast<float*>(rows)[at] = to_float(rounded);
    else
      static_cast<T*>(rows)[at] = rounded;
  }
};

// Blocks of a multiprocessor.
template <typename Shape, typename Constants, typename Queue>
constexpr int kBlocks = Shape::blocks(Queue::kRegisters + Constants::kRegisters);

// A warp strides over the rows and reads those of a turn before it writes any of them: `out` may be
// `in`. The first turn's are asked for before the number of rows is known, which memory has room
// for; rows past the end are read, as the last one that may exist, and not written.
template <typename T, typename Shape, typename Constants, typename Queue>
__global__ void __launch_bounds__(kRowThreads, (kBlocks<Shape, Constants, Queue>))
    layernorm_kernel(const __grid_constant__ LayerNormArguments args) {
  __shared__ typename Constants::Storage constants_storage;
  __shared__ typename Queue::Storage queue_storage;
  const Constants constants(args.norm, args.cols, constants_storage);
  wait_for_previous();
  const int num_chunks = args.cols / Shape::kElements;
  const int64_t turn_rows = int64_t{warps_in_grid()} * Shape::kWarpRows;
  int64_t first = int64_t{warp_in_grid()} * Shape::kWarpRows;
  Queue rows(queue_storage);
  const auto ask = [&](int64_t from, int num_rows) {
    if (from >= num_rows) return rows.ask_for_none();
    rows.ask(num_chunks, [&](int i) {
      const int64_t row = min(from + Shape::row_offset(i), int64_t{num_rows} - 1);
      return static_cast<const T*>(args.in) + row * args.in_stride;
    });
  };
#pragma unroll
  for (int turn = 0; turn < Queue::kAhead; ++turn) ask(first + turn * turn_rows, args.max_rows);

  const int num_rows = args.state->num_tokens;
  const Destination<T> out(args);
  if (!out.rows) return;
  while (first < num_rows) {
    const int64_t own = first;
    Rows<Shape> x;
    rows.take(num_chunks, x);
    first += turn_rows;
    ask(first + (Queue::kAhead - 1) * turn_rows, num_rows);
    store_norm<Shape>(x, constants, args.cols, args.norm.epsilon,
                      [&](int i, int column, const float(&y)[Shape::kElements]) {
                        const int64_t row = own + Shape::row_offset(i);
                        if (row < num_rows) out.store(row, column, y);
                      });
  }
}

// Rows that are not made of chunks, or wider than registers: a warp a row.
template <typename T>
__global__ void __launch_bounds__(kRowThreads) layernorm_any_kernel(LayerNormArguments args) {
  wait_for_previous();
  const int num_rows = args.state->num_tokens;
  const Destination<T> out(args);
  if (!out.rows) return;
  for (int64_t row = warp_in_grid(); row < num_rows; row += warps_in_grid()) {
    const T* from = static_cast<const T*>(args.in) + row * args.in_stride;
    norm_any_row(
        args.norm, args.cols, [=](int j) { return to_float(from[j]); },
        [&](int j, float y) { out.store(row, j, y); });
  }
}

// A caller's memory (indirect_out) may have any alignment: the kernel looks at it.
template <typename T>
bool is_chunked(const LayerNormArguments& args) {
  const bool out_is_chunked =
      args.indirect_out || (args.out_dtype == DType::kFloat32
                                ? made_of_chunks<float>(args.out, args.out_stride, args.cols)
                                : made_of_chunks<T>(args.out, args.out_stride, args.cols));
  return out_is_chunked && made_of_chunks<T>(args.in, args.in_stride, args.cols) &&
         is_aligned(args.norm.weight) && is_aligned(args.norm.bias);
}

template <typename T, typename Shape, template <typename> typename Constants, int ahead>
void launch_kernel(const LayerNormArguments& args, const DeviceTraits& device,
                   cudaStream_t stream) {
  using Queue = RowQueue<T, Shape, ahead>;
  launch(
      layernorm_kernel<T, Shape, Constants<Shape>, Queue>,
      row_launch(args.max_rows, Shape::kWarpRows, kBlocks<Shape, Constants<Shape>, Queue>, device),
      device.overlap, stream, args);
}

template <typename T>
void launch_layernorm(const LayerNormArguments& args, const DeviceTraits& device,
                      cudaStream_t stream) {
  const auto use = [&](auto shape) {
    launch_kernel<T, decltype(shape), CachedConstants, 0>(args, device, stream);
  };
  if (is_chunked<T>(args) && with_row_shape<T, kLaneRows>(args.cols / kChunkElements<T>, use))
    return;
  launch(layernorm_any_kernel<T>, row_launch(args.max_rows, 1, kAnyRowBlocks, device),
         device.overlap, stream, args);
}

}  // namespace

void layernorm(const LayerNormArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  with_type(args.dtype,
            [&](auto element) { launch_layernorm<decltype(element)>(args, device, stream); });
}

#ifdef VLT_KERNEL_VARIANTS
bool layernorm_variant(const LayerNormArguments& args, const DeviceTraits& device,
                       cudaStream_t stream, int variant) {
  if (args.dtype != DType::kFloat16 || !is_chunked<half>(args)) return false;
  const int num_chunks = args.cols / kChunkElements<half>;
  bool known = true;
  const auto use = [&](auto shape) {
    using Shape = decltype(shape);
    if constexpr (Shape::kRows > 1) {
      launch_kernel<half, Shape, CachedConstants, 0>(args, device, stream);
    } else {
      switch (variant) {
        case 2:
          return launch_kernel<half, Shape, CachedConstants, 2>(args, device, stream);
        case 3:
          return launch_kernel<half, Shape, SharedConstants, 0>(args, device, stream);
        case 4:
          return launch_kernel<half, Shape, SharedConstants, 2>(args, device, stream);
        case 5:
          return launch_kernel<half, Shape, RegisterConstants, 0>(args, device, stream);
        case 6:
          return launch_kernel<half, Shape, RegisterConstants, 2>(args, device, stream);
        default:
          known = false;
      }
    }
  };
  if (variant == 0) return with_usual_row_shape<half, 2>(num_chunks, use);
  if (variant == 1) return with_usual_row_shape<half, 4>(num_chunks, use);
  return with_usual_row_shape<half, 1>(num_chunks, use) && known;
}
#endif

}  // namespace vlt::cuda
