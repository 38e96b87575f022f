// Layer normalisation of a sum: out = norm(in + residual), of rows of any kind, width and alignment.
//
// A model does this once, or in a head on few rows, so it is the plain form: a warp a row, which it
// reads three times, twice of it from the caches. What a lane has read before it stores anything is
// all that this lane stores, so `out` may be `in` or `residual`. Sums are float32.
#include "kernels/cuda/rows.cuh"

namespace vlt::cuda {
namespace {

template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    add_layernorm_kernel(const __grid_constant__ AddLayerNormArguments args) {
  wait_for_previous();
  void* out = args.indirect_out ? *args.indirect_out : args.out;
  if (!out) return;
  const int64_t out_stride = args.indirect_out ? args.cols : args.out_stride;
  const int num_rows = *args.num_rows;
  for (int64_t row = warp_in_grid(); row < num_rows; row += warps_in_grid()) {
    const T* from = static_cast<const T*>(args.in) + row * args.in_stride;
    const T* residual =
        args.residual ? static_cast<const T*>(args.residual) + row * args.residual_stride : nullptr;
    norm_any_row(
        args.norm, args.cols,
        [=](int j) {
          const float x = to_float(from[j]);
          return residual ? x + to_float(residual[j]) : x;
        },
        [&](int j, float y) {
          store_element(in_global_memory(out), args.out_dtype, row * out_stride + j,
                        to_float(from_float<T>(y)));
        });
  }
}

}  // namespace

void add_layernorm(const AddLayerNormArguments& args, const DeviceTraits& device,
                   cudaStream_t stream) {
  with_type(args.dtype, [&](auto element) {
    launch(add_layernorm_kernel<decltype(element)>,
           row_launch(args.max_rows, 1, kAnyRowBlocks, device), device.overlap, stream, args);
  });
}

}  // namespace vlt::cuda
