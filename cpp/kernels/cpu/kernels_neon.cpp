// The kernels for AArch64, all of which has NEON.
#define VLT_KERNELS neon
#define VLT_KERNEL_TABLE kNeonKernels
#define VLT_KERNEL_NAME "neon"
#include "kernels/cpu/simd_neon.h"

#include "kernels/cpu/kernels.inc"
