// Products of int8 for AVX-512 VNNI; all else is in kernels_avx512.cpp.
#define VLT_KERNELS avx512_vnni
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/int8_products.h"

namespace vlt {

const LinearKernel kAvx512VnniLinear = {
    .run = VLT_KERNELS::linear_fours,
    .bytes = 1,
    .group = 4,
    .inputs = 4,
    .panels_a_row = 3,
    .scratch_bytes = VLT_KERNELS::FourInputs::kScratchBytes,
};

}  // namespace vlt
