// The kernels for AVX2 and FMA.
#define VLT_KERNELS avx2
#define VLT_KERNEL_TABLE kAvx2Kernels
#define VLT_KERNEL_NAME "avx2"
#include "kernels/cpu/simd_avx2.h"

#include "kernels/cpu/kernels.inc"
