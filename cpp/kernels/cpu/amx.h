// linear on AMX: products of tiles, 16 rows × 32 k's by 32 k's × 16 columns, in bfloat16.
//
// Layout     Weights as in dot_products.h: a panel's row is 32 pairs, so that 16 of them below each
//            other are two tiles side by side; K is filled up with zeros to a whole tile. Inputs are
//            rounded to bfloat16 once a block of k: [rows, kAmxInputBlock] in the caller's scratch.
// Mapping    k blocks → panels → strips of 32 rows. Four tiles of sums, of 2 × 2 of rows × columns,
//            or where only 16 rows are left 1 × 4 of two panels. A product takes 16 cycles and its
//            result 52, so four have to be under way.
// Roofline   16 · 16 · 32 multiply-adds in 16 cycles, 16 times AVX-512 in float32. A panel's block
//            of k, 32 KiB, stays in L1 while the strips pass over it.
// Numerics   A sum runs over a block of k in order, whatever tile it is in, and lies in `out` between
//            blocks. Rows behind the last are computed from whatever lies there, and not kept.
// Reference  linear in reference/reference_backend.cpp, on rounded inputs and weights
#pragma once

#include <immintrin.h>

#include "kernels/cpu/linear.h"

namespace vlt::VLT_KERNELS {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileInputs = 32;
constexpr int64_t kTileBytes = 64;  // of a tile's row, the most there is
constexpr int64_t kAmxInputBlock = 512;
static_assert(kPanelWidth == 2 * 16, "a panel is two tiles wide");

// Numbers of tiles have to be literals: 0 … 3 are sums, 4 and 5 inputs, 6 and 7 weights.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// gcc is not told that tiles are loaded from memory, and might leave stores out or for later.
inline void keep_stores(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

// Inputs as bfloat16, and room for sums on their way to `out`.
struct AmxScratch {
  // A cache line more than a block: rows a multiple of 1 KiB apart would share cache sets.
  static constexpr int64_t kStride = kAmxInputBlock + 32;
  static constexpr int64_t kRows = (kMostBlockRows + kTileRows - 1) / kTileRows * kTileRows;
  static constexpr int64_t kSums = 2 * kTileRows * kPanelWidth;
  static constexpr int64_t kBytes =
      kRows * kStride * int64_t{sizeof(uint16_t)} + kSums * int64_t{sizeof(float)};

  explicit AmxScratch(void* memory)
      : inputs(static_cast<uint16_t*>(memory)),
        sums(reinterpret_cast<float*>(inputs + kRows * kStride)) {}

  uint16_t* const inputs;  // [kRows, kStride]
  float* const sums;       // [rows, panels · kPanelWidth]
};

inline int64_t round_up_to_tiles(int64_t inputs) {
  return (inputs + kTileInputs - 1) / kTileInputs * kTileInputs;
}

// Rounds a block of the inputs; zeros up to a whole tile, since what lies there may be NaN.
inline void round_inputs(const LinearBlock& b, int64_t k, int64_t count, uint16_t* out) {
  const int64_t whole = round_up_to_tiles(count);
  for (int64_t row = b.row_begin; row < b.row_end; ++row, out += AmxScratch::kStride) {
    const float* in = b.in + row * b.in_stride + k;
    for (int64_t j = 0; j < whole; j += Vec::kLanes) {
      const int64_t left = count - j;
      const Vec x = left >= Vec::kLanes ? load(in + j)
                    : left > 0          ? load_first(in + j, left)
                                        : zero();
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j),
                          reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x.v)));
    }
  }
}

// sums [32, 32] = 32 rows of inputs · a panel
inline void multiply_2x2(const uint16_t* inputs, const uint16_t* panel, int64_t steps,
                         float* sums) {
  constexpr int64_t kInputStride = AmxScratch::kStride * int64_t{sizeof(uint16_t)};
  constexpr int64_t kPanelStride = 2 * kTileBytes;
  const uint16_t* below = inputs + kTileRows * AmxScratch::kStride;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t step = 0; step < steps; ++step) {
    _tile_loadd(4, inputs + step * kTileInputs, kInputStride);
    _tile_loadd(5, below + step * kTileInputs, kInputStride);
    const uint16_t* weights = panel + step * kTileInputs * kPanelWidth;
    _tile_loadd(6, weights, kPanelStride);
    _tile_loadd(7, weights + kTileBytes / sizeof(uint16_t), kPanelStride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  constexpr int64_t kStride = kPanelWidth * int64_t{sizeof(float)};
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + 16, kStride);
  _tile_stored(2, sums + kTileRows * kPanelWidth, kStride);
  _tile_stored(3, sums + kTileRows * kPanelWidth + 16, kStride);
}

// sums [16, 64] = 16 rows of inputs · two panels, or [16, 32] of one, which are then the same twice
inline void multiply_1x4(const uint16_t* inputs, const uint16_t* panel, const uint16_t* next,
                         int64_t steps, float* sums) {
  constexpr int64_t kInputStride = AmxScratch::kStride * int64_t{sizeof(uint16_t)};
  constexpr int64_t kPanelStride = 2 * kTileBytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t at = step * kTileInputs * kPanelWidth;
    _tile_loadd(4, inputs + step * kTileInputs, kInputStride);
    _tile_loadd(6, panel + at, kPanelStride);
    _tile_loadd(7, panel + at + kTileBytes / sizeof(uint16_t), kPanelStride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, next + at, kPanelStride);
    _tile_loadd(7, next + at + kTileBytes / sizeof(uint16_t), kPanelStride);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 7);
  }
  constexpr int64_t kStride = 2 * kPanelWidth * int64_t{sizeof(float)};
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + 16, kStride);
  _tile_stored(2, sums + 32, kStride);
  _tile_stored(3, sums + 48, kStride);
}

// out += sums, or out = sums in the first block of k; after the last one also the rest of linear.
inline void finish_sums(const LinearBlock& b, const float* sums, int64_t sums_stride, int64_t row,
                        int64_t rows, int64_t column, int64_t cols, bool first, bool last) {
  for (int64_t i = 0; i < rows; ++i) {
    float* out = b.out + (row + i) * b.out_stride + column;
    const float* residual =
        last && b.residual ? b.residual + (row + i) * b.residual_stride + column : nullptr;
    for (int64_t j = 0; j < cols; j += Vec::kLanes) {
      const int64_t lanes = cols - j < Vec::kLanes ? cols - j : Vec::kLanes;
      Vec y = load(sums + i * sums_stride + j);
      if (!first) y = load_lanes(out + j, lanes) + y;
      if (last) y = y + load(b.bias + column + j);
      if (residual) y = y + load_lanes(residual + j, lanes);
      if (last) y = activate(b.activation, y);
      store_lanes(out + j, y, lanes);
    }
  }
}

inline void linear_amx(const LinearBlock& b) {
  const AmxScratch scratch(b.scratch);
  const auto* panels = static_cast<const uint16_t*>(b.panels);
  const int64_t panel_stride = round_up_to_tiles(b.inputs) * kPanelWidth;
  const TileConfig config;
  keep_stores(&config);
  _tile_loadconfig(&config);
  for (int64_t k = 0; k < b.inputs; k += kAmxInputBlock) {
    const bool first = k == 0, last = k + kAmxInputBlock >= b.inputs;
    const int64_t count = last ? b.inputs - k : kAmxInputBlock;
    const int64_t steps = round_up_to_tiles(count) / kTileInputs;
    round_inputs(b, k, count, scratch.inputs);
    keep_stores(scratch.inputs);
    const auto cols_of = [&](int64_t column, int64_t most) {
      return b.outputs - column < most ? b.outputs - column : most;
    };
    for (int64_t panel = b.panel_begin; panel < b.panel_end; ++panel) {
      const int64_t column = panel * kPanelWidth;
      const uint16_t* weights = panels + panel * panel_stride + k * kPanelWidth;
      int64_t row = b.row_begin;
      for (; b.row_end - row > kTileRows; row += 2 * kTileRows) {
        multiply_2x2(scratch.inputs + (row - b.row_begin) * AmxScratch::kStride, weights, steps,
                     scratch.sums);
        const int64_t rows = b.row_end - row < 2 * kTileRows ? b.row_end - row : 2 * kTileRows;
        finish_sums(b, scratch.sums, kPanelWidth, row, rows, column, cols_of(column, kPanelWidth),
                    first, last);
      }
      // What is left of the rows takes two panels at a time: this one and the one behind it.
      if (row >= b.row_end || (panel - b.panel_begin) % 2 != 0) continue;
      const bool two = panel + 1 < b.panel_end;
      multiply_1x4(scratch.inputs + (row - b.row_begin) * AmxScratch::kStride, weights,
                   two ? weights + panel_stride : weights, steps, scratch.sums);
      finish_sums(b, scratch.sums, 2 * kPanelWidth, row, b.row_end - row, column,
                  cols_of(column, two ? 2 * kPanelWidth : kPanelWidth), first, last);
    }
  }
  _tile_release();
}

}  // namespace vlt::VLT_KERNELS
