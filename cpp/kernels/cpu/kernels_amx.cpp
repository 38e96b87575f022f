// Products of bfloat16 for AMX; all else is in kernels_avx512.cpp.
#define VLT_KERNELS amx
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/amx.h"

namespace vlt {

const LinearKernel kAmxBfloat16Linear = {VLT_KERNELS::linear_amx, 2, 2, VLT_KERNELS::kTileInputs,
                                         VLT_KERNELS::AmxScratch::kBytes};

}  // namespace vlt
