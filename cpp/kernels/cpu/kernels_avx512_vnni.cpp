// Products of int8 for AVX-512 VNNI; all else is in kernels_avx512.cpp.
#define VLT_KERNELS avx512_vnni
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/int8_products.h"

namespace vlt {

const LinearKernel kAvx512VnniLinear = {
    VLT_KERNELS::linear_fours, 1, 4, 4, kMostBlockRows, VLT_KERNELS::FourInputs::kScratchBytes};

}  // namespace vlt
