// Host side of the sm_90a product: tensor maps, the choice of a kernel, the launch.
#include <algorithm>

#include "kernels/cuda/gemm_hopper_kernel.cuh"
#include "kernels/cuda/tensor_map.h"

namespace vlt::cuda {
namespace {

using hopper::ceil_div;

template <typename T, typename S, hopper::Activations activations>
void launch_kernel(const GemmArguments& a, const DeviceTraits& device, cudaStream_t stream) {
  const CUtensorMap in =
      make_tensor_map(a.dtype, a.in, a.max_rows, a.inputs, a.in_stride, S::kRows, hopper::kDepth);
  const CUtensorMap weight = make_tensor_map(a.dtype, a.weight, a.outputs, a.inputs,
                                             a.weight_stride, S::kPartCols, hopper::kDepth);
  const CUtensorMap out =
      make_tensor_map(a.dtype, a.out, a.max_rows, a.outputs, a.out_stride, S::kRows, S::kBoxCols);
  const bool has_residual = a.residual != nullptr;
  const CUtensorMap residual = has_residual
                                   ? make_tensor_map(a.dtype, a.residual, a.max_rows, a.outputs,
                                                     a.out_stride, S::kRows, S::kBoxCols)
                                   : out;
  hopper::Parameters p{};
  p.bias = a.bias;
  p.num_rows = a.num_rows;
  p.max_rows = a.max_rows;
  p.num_biases = ceil_div(a.outputs, 8) * 8;
  p.tiles_across = ceil_div(a.outputs, S::kCols);
  p.num_depths = ceil_div(a.inputs, hopper::kDepth);
  p.num_stages = std::min(S::kStages, p.num_depths);
  p.activation = a.activation;
  p.has_residual = has_residual;

  const int most = ceil_div(a.max_rows, S::kRows * S::kCluster) * p.tiles_across;
  const int bytes = S::kFixedBytes + hopper::num_stages<S>(p) * S::kStageBytes;
  constexpr int kReserved = 1024;  // of each block, by the driver
  const int blocks =
      std::min(S::kBlocks, (hopper::kMaxSharedBytes + kReserved) / (bytes + kReserved));
  LaunchShape shape;
  const int clusters = device.num_multiprocessors * blocks / S::kCluster;
  shape.grid = dim3(std::min(clusters, most) * S::kCluster);
  shape.cluster = S::kCluster;
  shape.block = dim3(S::kThreads);
  shape.shared_bytes = bytes;
  const auto kernel = hopper::gemm_kernel<T, S, activations>;
  allow_shared_bytes(kernel, hopper::kMaxSharedBytes);
  prefer_shared_memory(kernel);
  launch(kernel, shape, device.overlap, stream, in, weight, residual, out, p);
}

template <typename T, typename S>
void launch_tile(const GemmArguments& a, const DeviceTraits& device, cudaStream_t stream) {
  using hopper::Activations;
  if (a.activation == Activation::kIdentity || a.activation == Activation::kGelu)
    launch_kernel<T, S, Activations::kIdentityAndGelu>(a, device, stream);
  else
    launch_kernel<T, S, Activations::kOthers>(a, device, stream);
}

// Launches the instantiation of this tile, if it is the one meant.
template <int rows, int cols, int cluster = 1>
bool launch_if(const HopperTile& tile, const GemmArguments& a, const DeviceTraits& device,
               cudaStream_t stream) {
  if (tile.rows != rows || tile.cols != cols || tile.cluster != cluster) return false;
  using Shape = hopper::Shape<rows, cols, cluster>;
  if (a.dtype == DType::kBFloat16)
    launch_tile<bfloat16, Shape>(a, device, stream);
  else
    launch_tile<half, Shape>(a, device, stream);
  return true;
}

}  // namespace

void gemm_hopper(const GemmArguments& a, const DeviceTraits& device, cudaStream_t stream,
                 int tile) {
  if (a.max_rows == 0 || a.outputs == 0) return;
  const int index = tile >= 0 ? tile
                              : choose_hopper_tile(a.max_rows, a.outputs, a.inputs,
                                                   a.activation != Activation::kIdentity,
                                                   device.num_multiprocessors);
  const HopperTile shape = hopper_tile(index);
  const bool launched = launch_if<128, 192, 2>(shape, a, device, stream) ||
                        launch_if<128, 160, 2>(shape, a, device, stream) ||
                        launch_if<128, 128, 2>(shape, a, device, stream) ||
                        launch_if<128, 192>(shape, a, device, stream) ||
                        launch_if<128, 160>(shape, a, device, stream) ||
                        launch_if<128, 128>(shape, a, device, stream) ||
                        launch_if<128, 96>(shape, a, device, stream) ||
                        launch_if<64, 64>(shape, a, device, stream) ||
                        launch_if<64, 32>(shape, a, device, stream);
  if (!launched) throw CudaError(cudaErrorInvalidValue, "choosing a kernel for the tile");
}

}  // namespace vlt::cuda
