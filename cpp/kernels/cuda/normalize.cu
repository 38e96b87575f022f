// Division of rows by their L2 norm: a warp a row, which it reads twice, so `out` may be `in`. Lanes
// take neighbouring elements, so that neither the speed nor the order of the sum depends on
// alignment.
#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {
namespace {

__device__ inline float divisor_of_norm(float squares) {
  const float norm = sqrtf(squares);
  return norm < 1e-12f ? 1e-12f : norm;  // not fmaxf: it would drop a NaN
}

template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    normalize_kernel(const __grid_constant__ NormalizeArguments args) {
  constexpr int kInFlight = 8;
  wait_for_previous();
  const void* in = args.indirect_in ? *args.indirect_in : args.in;
  void* out = args.indirect_out ? *args.indirect_out : args.out;
  if (!in || !out) return;
  const int64_t in_stride = args.indirect_in ? args.cols : args.in_stride;
  const int64_t out_stride = args.indirect_out ? args.cols : args.out_stride;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int num_rows = args.state->num_sequences;
  for (int64_t row = warp_in_grid(); row < num_rows; row += warps_in_grid()) {
    const T* from = in_global_memory(static_cast<const T*>(in)) + row * in_stride;
    float norm = 1;
    if (args.divide) {
      float squares = 0;
#pragma unroll kInFlight
      for (int j = lane; j < args.cols; j += 32) {
        const float x = to_float(from[j]);
        squares = fmaf(x, x, squares);
      }
      norm = divisor_of_norm(warp_sum(squares));
    }
    for (int base = lane; base < args.cols; base += 32 * kInFlight) {
      // a store might change what a later load reads, for all the compiler knows
      float x[kInFlight];
#pragma unroll
      for (int u = 0; u < kInFlight; ++u)
        if (base + 32 * u < args.cols) x[u] = to_float(from[base + 32 * u]);
#pragma unroll
      for (int u = 0; u < kInFlight; ++u)
        if (base + 32 * u < args.cols)
          store_element(in_global_memory(out), args.out_dtype, row * out_stride + base + 32 * u,
                        x[u] / norm);
    }
  }
}

}  // namespace

void normalize(const NormalizeArguments& args, const DeviceTraits& device, cudaStream_t stream) {
  with_type(args.dtype, [&](auto element) {
    launch(normalize_kernel<decltype(element)>,
           row_launch(args.max_sequences, 1, kAnyRowBlocks, device), device.overlap, stream, args);
  });
}

}  // namespace vlt::cuda
