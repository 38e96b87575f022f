// Products of bfloat16 and of int8 for AMX, and attention; all else is in kernels_avx512.cpp.
#define VLT_KERNELS amx
#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_attention.h"

namespace vlt {
namespace {

using VLT_KERNELS::AmxScratch, VLT_KERNELS::Bfloat16Tiles, VLT_KERNELS::Int8Tiles;

}  // namespace

const LinearKernel kAmxBfloat16Linear = {
    VLT_KERNELS::linear_tiles<Bfloat16Tiles>, 2, 2, 32, kMostTileBlockRows,
    AmxScratch<Bfloat16Tiles>::kBytes};
const LinearKernel kAmxInt8Linear = {
    VLT_KERNELS::linear_tiles<Int8Tiles>, 1, 4, 64, kMostTileBlockRows,
    AmxScratch<Int8Tiles>::kBytes};
const AttentionKernel kAmxBfloat16Attention = VLT_KERNELS::kAttention<VLT_KERNELS::TileProducts>;

}  // namespace vlt
