// Layer normalisation of rows: out = (x - mean) / sqrt(variance + epsilon) · weight + bias.
//
// 16 or 32 lanes hold a row in registers as 16-byte chunks (384 columns of float16 are 48 chunks:
// 16 lanes × 3, none idle), and weights and biases beside it, see norm_constants.cuh. Each row is
// read once and written once, and nothing goes through shared memory, so a kernel is bound by
// 2 · T · H elements of memory: 65,536 rows of 384 / 768 / 1024 float16 take 33.6 / 67.1 / 89.5 µs at
// the 3.00 TB/s of an H100's copy, and 37.0 / 74.8 / 98.4 µs here. The grid is what the device holds
// at once, and a warp asks for its next rows before it works on those it has: 16 warps with 1.5 KB
// each keep 24 KB a multiprocessor on their way all the time; 3.00 TB/s for 0.8 µs over 132 of them
// are 18 KB, half of that reads.
//
// One row a lane: several share each read of a constant and let their sums over lanes overlap, but
// leave registers for fewer warps. With constants in the L1 cache 2 rows took 39.2 / 76.6 / 101.6 µs
// and 1 took 39.7 / 78.4 / 103.8; without those reads there is little left to share. See
// layernorm_by_rows().
// Mean, then centred variance, in float32.
#include "kernels/cuda/norm_constants.cuh"

namespace vlt::cuda {
namespace {

constexpr int kMostRegisterChunks = 4;  // of a lane, for whose constants there are registers

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
template <typename Shape, typename Constants>
constexpr int kBlocks = Shape::blocks(Shape::kLoadRegisters + Constants::kRegisters);

// A warp strides over the rows and reads those of a turn before it writes any of them: `out` may be
// `in`. The first turn's are asked for before the number of rows is known, which memory has room
// for; rows past the end are read, as the last one that may exist, and not written. The last rows
// come first: they are what the product before wrote last and the L2 cache still has, and the first
// rows, written last, are what the next product reads first.
template <typename T, typename Shape, typename Constants>
__global__ void __launch_bounds__(kRowThreads, (kBlocks<Shape, Constants>))
    layernorm_kernel(const __grid_constant__ LayerNormArguments args) {
  __shared__ typename Constants::Storage storage;
  const Constants constants(args.norm, args.cols, storage);
  wait_for_previous();
  const int num_chunks = args.cols / Shape::kElements;
  const int64_t turn_rows = int64_t{warps_in_grid()} * Shape::kWarpRows;
  const int64_t last = (int64_t{args.max_rows} - 1) / Shape::kWarpRows * Shape::kWarpRows;
  int64_t first = last - int64_t{warp_in_grid()} * Shape::kWarpRows;
  Chunks<Shape> chunks;
  const auto load = [&](int64_t from, int num_rows) {
    const auto row_of = [&](int i) {
      const int64_t row = min(from + Shape::row_offset(i), int64_t{num_rows} - 1);
      return static_cast<const T*>(args.in) + row * args.in_stride;
    };
    if (from >= 0 && from < num_rows) load_rows<T, Shape>(num_chunks, row_of, chunks);
  };
  load(first, args.max_rows);

  const int num_rows = *args.num_rows;
  const Destination<T> out(args);
  if (!out.rows) return;
  while (first >= 0) {
    const int64_t own = first;
    Rows<Shape> x;
    unpack_rows<T, Shape>(chunks, x);
    first -= turn_rows;
    load(first, num_rows);
    if (own >= num_rows) continue;
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
  const int num_rows = *args.num_rows;
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

template <typename T, typename Constants, typename Shape>
void launch_shape(Shape, const LayerNormArguments& args, const DeviceTraits& device,
                  cudaStream_t stream) {
  launch(layernorm_kernel<T, Shape, Constants>,
         row_launch(args.max_rows, Shape::kWarpRows, kBlocks<Shape, Constants>, device),
         device.overlap, stream, args);
}

template <typename T>
void launch_layernorm(const LayerNormArguments& args, const DeviceTraits& device,
                      cudaStream_t stream) {
  const auto use = [&](auto shape) {
    using Shape = decltype(shape);
    using Constants = std::conditional_t<(Shape::kChunks <= kMostRegisterChunks),
                                         RegisterConstants<Shape>, SharedConstants<Shape>>;
    launch_shape<T, Constants>(shape, args, device, stream);
  };
  if (is_chunked<T>(args) && with_row_shape<T>(args.cols / kChunkElements<T>, use)) return;
  launch(layernorm_any_kernel<T>, row_launch(args.max_rows, 1, kAnyRowBlocks, device),
         device.overlap, stream, args);
}

#ifdef VLT_KERNEL_VARIANTS
template <int rows>
bool launch_by_rows(const LayerNormArguments& args, const DeviceTraits& device,
                    cudaStream_t stream) {
  const auto use = [&](auto shape) {
    launch_shape<half, SharedConstants<decltype(shape)>>(shape, args, device, stream);
    return true;
  };
  switch (args.cols) {
    case 384:
      return use(RowShape<half, 16, 3, 2, rows>());
    case 768:
      return use(RowShape<half, 32, 3, 2, rows>());
    case 1024:
      return use(RowShape<half, 32, 4, 3, rows>());
    default:
      return false;
  }
}
#endif

}  // namespace

void layernorm(const LayerNormArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  with_type(args.dtype,
            [&](auto element) { launch_layernorm<decltype(element)>(args, device, stream); });
}

#ifdef VLT_KERNEL_VARIANTS
bool layernorm_by_rows(const LayerNormArguments& args, const DeviceTraits& device,
                       cudaStream_t stream, int lane_rows) {
  if (args.dtype != DType::kFloat16 || !is_chunked<half>(args)) return false;
  switch (lane_rows) {
    case 1:
      return launch_by_rows<1>(args, device, stream);
    case 2:
      return launch_by_rows<2>(args, device, stream);
    case 4:
      return launch_by_rows<4>(args, device, stream);
    default:
      return false;
  }
}
#endif

}  // namespace vlt::cuda
