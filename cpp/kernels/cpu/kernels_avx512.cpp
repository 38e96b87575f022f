// The kernels for AVX-512.
#define VLT_KERNELS avx512
#define VLT_KERNEL_TABLE kAvx512Kernels
#define VLT_KERNEL_NAME "avx512"
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/kernels.inc"
