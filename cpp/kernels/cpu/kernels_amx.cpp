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
    .run = VLT_KERNELS::linear_tiles<Bfloat16Tiles>,
    .bytes = 2,
    .group = 2,
    .inputs = 32,
    .most_rows = kMostTileBlockRows,
    .rows_a_panel = 100,
    .panels_a_row = 18,
    .scratch_bytes = AmxScratch<Bfloat16Tiles>::kBytes,
};
const LinearKernel kAmxInt8Linear = {
    .run = VLT_KERNELS::linear_tiles<Int8Tiles>,
    .bytes = 1,
    .group = 4,
    .inputs = 64,
    .most_rows = kMostTileBlockRows,
    .rows_a_panel = 100,
    .panels_a_row = 40,
    .scratch_bytes = AmxScratch<Int8Tiles>::kBytes,
};
const AttentionKernel kAmxBfloat16Attention = VLT_KERNELS::kAttention<VLT_KERNELS::TileProducts>;

}  // namespace vlt
