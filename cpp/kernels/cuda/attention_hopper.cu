// Launches the attention of long sequences on sm_90a.
#include <algorithm>

#include "kernels/cuda/attention_hopper_kernel.cuh"
#include "kernels/cuda/tensor_map.h"

namespace vlt::cuda {
namespace {

template <typename T, int D>
void launch_attention(const AttentionArguments& a, const DeviceTraits& device,
                      cudaStream_t stream) {
  using Tile = hopper::Tile<D>;
  constexpr size_t kSharedBytes = hopper::Shared<D>::kBytes + hopper::Shared<D>::kAlignment;
  const auto kernel = hopper::attention_long_hopper_kernel<T, D>;
  const CUtensorMap map = make_tensor_map(a.dtype, a.qkv, a.max_rows, int64_t{3} * a.num_heads * D,
                                          a.qkv_stride, hopper::kGroupRows, Tile::kBoxColumns);
  const hopper::AttentionParameters parameters{
      a.state, a.long_items, a.out, a.out_stride, a.num_heads, a.scale * kLog2E, a.behind_short};
  // A sequence of L > 128 tokens has at most ceil(L / 128) < L / 64 items.
  const int64_t most_items = int64_t{a.max_rows} / 64 * a.num_heads;
  LaunchShape shape;
  shape.grid =
      dim3(static_cast<unsigned>(std::min<int64_t>(device.num_multiprocessors, most_items)));
  shape.block = dim3(Tile::kThreads);
  shape.shared_bytes = kSharedBytes;
  allow_shared_bytes(kernel, kSharedBytes);
  launch(kernel, shape, device.overlap, stream, map, parameters);
}

template <typename T>
void launch_for_head_size(const AttentionArguments& a, const DeviceTraits& device,
                          cudaStream_t stream) {
  if (a.head_size == 32) return launch_attention<T, 32>(a, device, stream);
  if (a.head_size == 64) return launch_attention<T, 64>(a, device, stream);
  launch_attention<T, 128>(a, device, stream);
}

}  // namespace

// The copy engine wants rows that start on 16 bytes. So do heads, at multiples of 64 bytes.
bool hopper_attention_fits(int32_t head_size, int64_t qkv_stride, int32_t num_heads) {
  const bool known = head_size == 32 || head_size == 64 || head_size == 128;
  return known && qkv_stride % 8 == 0 && qkv_stride >= int64_t{3} * num_heads * head_size;
}

void attention_long_hopper(const AttentionArguments& a, const DeviceTraits& device,
                           cudaStream_t stream) {
  if (a.max_rows <= kShortLength) return;
  if (a.dtype == DType::kBFloat16)
    launch_for_head_size<bfloat16>(a, device, stream);
  else
    launch_for_head_size<half>(a, device, stream);
}

}  // namespace vlt::cuda
