// The kernels for the compiler's baseline.
#define VLT_KERNELS portable
#define VLT_KERNEL_TABLE kPortableKernels
#define VLT_KERNEL_NAME "portable"
#include "kernels/cpu/simd_portable.h"

#include "kernels/cpu/kernels.inc"
