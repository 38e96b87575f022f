#include "kernels/cuda/attention.h"

namespace vlt::cuda {

void attention_relative(const AttentionArguments& arguments, const DeviceTraits& device,
                        cudaStream_t stream) {
  const RelativeWeights& relative = arguments.relative;
  const bool aligned = heads_are_aligned(arguments);
  if (relative.row && !relative.bias && aligned &&
      disentangled_attention_fits(arguments.head_size, device))
    return attention_disentangled(arguments, device, stream);
  if (relative.row || !aligned) return attention_fp32(arguments, device, stream);
  attention_short_mma(arguments, device, stream);
  attention_long_mma(arguments, device, stream);
}

}  // namespace vlt::cuda
