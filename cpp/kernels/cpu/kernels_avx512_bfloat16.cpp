// Products of bfloat16, and attention, for AVX-512-BF16; all else is in kernels_avx512.cpp.
#define VLT_KERNELS avx512_bfloat16
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/dot_products.h"
#include "kernels/cpu/pair_attention.h"

namespace vlt {

const LinearKernel kAvx512Bfloat16Linear = {
    .run = VLT_KERNELS::linear_pairs,
    .bytes = 2,
    .group = 2,
    .inputs = 2,
    .scratch_bytes = VLT_KERNELS::PairedInputs::kScratchBytes,
};
const AttentionKernel kAvx512Bfloat16Attention = VLT_KERNELS::kAttention<VLT_KERNELS::PairProducts>;

}  // namespace vlt
