// Rows that are copies of others: chosen tokens, a token's neighbours, one token of each sequence.
//
// A warp copies a row at a time, in 16-byte chunks where both sides consist of them and are of one
// type, otherwise element by element. Which row, and whether it is zeros instead, is read on the
// device.
#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {
namespace {

constexpr int kZeros = -1;

// Each says how many rows `out` has and which row of `in` lies at `part` of a row of `out`.
struct ChosenTokens {
  const int32_t* tokens;
  int num_rows;

  __device__ explicit ChosenTokens(const CopyArguments& args)
      : tokens(args.header->chosen_tokens), num_rows(args.state->num_chosen) {}
  __device__ int source(int row, int) const { return __ldg(tokens + row); }
};

struct PooledSequences {
  const int32_t* starts;
  const int32_t* pooling_starts;
  int num_rows;

  __device__ explicit PooledSequences(const CopyArguments& args)
      : starts(args.header->sequence_starts),
        pooling_starts(args.header->pooling_starts),
        num_rows(args.state->num_sequences) {}
  __device__ int source(int row, int) const {
    const int length = __ldg(starts + row + 1) - __ldg(starts + row);
    const int skipped = pooling_starts ? __ldg(pooling_starts + row) : 0;
    return skipped < length ? row : kZeros;
  }
};

struct Neighbours {
  const int32_t* starts;
  int num_sequences;
  int num_rows;
  int before;

  __device__ explicit Neighbours(const CopyArguments& args)
      : starts(args.header->sequence_starts),
        num_sequences(args.state->num_sequences),
        num_rows(args.state->num_tokens),
        before(args.width / 2) {}
  __device__ int source(int row, int part) const {
    int low = 0, high = num_sequences;  // starts[low] <= row < starts[high]
    while (high - low > 1) {
      const int middle = low + (high - low) / 2;
      (__ldg(starts + middle) <= row ? low : high) = middle;
    }
    const int neighbour = row + part - before;
    const bool exists = neighbour >= __ldg(starts + low) && neighbour < __ldg(starts + high);
    return exists ? neighbour : kZeros;
  }
};

template <typename T, int N, typename Source>
__global__ void __launch_bounds__(kRowThreads, kAnyRowBlocks)
    copy_rows_kernel(const __grid_constant__ CopyArguments args) {
  wait_for_previous();
  const void* in = args.indirect_in ? *args.indirect_in : args.in;
  void* out = args.indirect_out ? *args.indirect_out : args.out;
  if (!in || !out) return;
  const int64_t in_stride = args.indirect_in ? args.cols : args.in_stride;
  const int64_t out_stride = args.indirect_out ? int64_t{args.cols} * args.width : args.out_stride;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Source source(args);
  const int64_t count = int64_t{source.num_rows} * args.width;
  for (int64_t i = warp_in_grid(); i < count; i += warps_in_grid()) {
    const int row = static_cast<int>(i / args.width), part = static_cast<int>(i % args.width);
    const int from_row = source.source(row, part);
    const T* from = in_global_memory(static_cast<const T*>(in)) + from_row * in_stride;
    const int64_t to = row * out_stride + int64_t{part} * args.cols;
    for (int j = lane * N; j < args.cols; j += 32 * N) {
      if constexpr (N > 1) {
        const uint4 chunk = from_row == kZeros ? make_uint4(0, 0, 0, 0) : load_once<T, N>(from + j);
        store_chunk(in_global_memory(static_cast<T*>(out)) + to + j, chunk, true);
      } else {
        const float x = from_row == kZeros ? 0.0f : to_float(from[j]);
        store_element(in_global_memory(out), args.out_dtype, to + j, x);
      }
    }
  }
}

template <typename T>
bool is_chunked(const CopyArguments& args) {
  return args.dtype == args.out_dtype && !args.indirect_in && !args.indirect_out &&
         made_of_chunks<T>(args.in, args.in_stride, args.cols) &&
         made_of_chunks<T>(args.out, args.out_stride, args.cols);
}

template <typename Source>
void copy_rows(const CopyArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  with_type(args.dtype, [&](auto element) {
    using T = decltype(element);
    const LaunchShape shape =
        row_launch(int64_t{args.max_rows} * args.width, 1, kAnyRowBlocks, device);
    if (is_chunked<T>(args))
      launch(copy_rows_kernel<T, kChunkElements<T>, Source>, shape, device.overlap, stream, args);
    else
      launch(copy_rows_kernel<T, 1, Source>, shape, device.overlap, stream, args);
  });
}

}  // namespace

void gather_chosen(const CopyArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  copy_rows<ChosenTokens>(args, device, stream);
}

void unfold(const CopyArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  copy_rows<Neighbours>(args, device, stream);
}

void pool_single(const CopyArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  copy_rows<PooledSequences>(args, device, stream);
}

}  // namespace vlt::cuda
