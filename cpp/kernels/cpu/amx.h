// linear on AMX: products of tiles, 16 rows × 64 bytes of k by 64 bytes of k × 16 columns, on
// bfloat16 (32 k's a tile) or int8 (64).
//
// Layout     Weights as in dot_products.h and int8_products.h: a panel's row is 32 pairs or fours, so
//            that 16 of them below each other are two tiles side by side; K is filled up with zeros
//            to a whole tile. Inputs are rounded to bfloat16, or quantised, once a block of k, into
//            the caller's scratch.
// Mapping    k blocks → panels → strips of 32 rows. Four tiles of sums, of 2 × 2 of rows × columns,
//            or where only 16 rows are left 1 × 4 of two panels. A product takes 16 cycles and its
//            result 52, so four have to be under way.
// Roofline   16 · 16 · 32 multiply-adds in 16 cycles, 16 times AVX-512 in float32; 64 for int8.
//            Rows and panels come from L2, which is good for three quarters of that; from behind L2
//            it would be a sixth (Sapphire Rapids, 27 GB/s a core). So a block of rows is as large
//            as L2 allows, and the next panel is fetched while tiles multiply.
// Numerics   A sum runs over a block of k in order, whatever tile it is in, and lies in `out` between
//            blocks, as float32 or int32. Rows behind the last are computed from whatever lies
//            there, and not kept.
// Reference  linear in reference/reference_backend.cpp, on rounded inputs and weights
#pragma once

#include <immintrin.h>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/quantized_bytes.h"

namespace vlt::VLT_KERNELS {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 64;  // of a tile's row, the most there is
// 32 columns of 4 bytes: two tiles side by side.
constexpr int64_t kPanelRowBytes = 2 * kTileBytes;
static_assert(kPanelWidth * 4 == kPanelRowBytes);
constexpr int64_t kAmxBlockBytes = 1536;  // of a row of inputs: 24 tiles, 48 KiB of a panel

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

inline void configure_tiles() {
  const TileConfig config;
  keep_stores(&config);
  _tile_loadconfig(&config);
}

// Rows of inputs as bfloat16, in the caller's scratch.
class RoundedRows {
 public:
  static constexpr int64_t kBlock = kAmxBlockBytes / int64_t{sizeof(uint16_t)};
  // A cache line more than a block: rows a multiple of 1 KiB apart would share cache sets.
  static constexpr int64_t kStride = kAmxBlockBytes + 64;
  static constexpr int64_t kRows = kMostTileBlockRows;
  static_assert(kRows % kTileRows == 0);
  static constexpr int64_t kBytes = kRows * kStride;

  explicit RoundedRows(void* scratch) : bytes_(static_cast<uint8_t*>(scratch)) {}

  // Zeros up to a whole tile, since what lies there may be NaN.
  void take(const LinearBlock& b, int64_t k, int64_t count) {
    const int64_t whole = (count + 31) / 32 * 32;
    for (int64_t row = b.row_begin; row < b.row_end; ++row) {
      const float* in = b.in + row * b.in_stride + k;
      auto* out = reinterpret_cast<uint16_t*>(bytes_ + (row - b.row_begin) * kStride);
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
  const uint8_t* row(int64_t i) const { return bytes_ + i * kStride; }

 private:
  uint8_t* const bytes_;
};

// Products of bfloat16, in float32.
struct Bfloat16Tiles {
  using Rows = RoundedRows;
  static constexpr int64_t kElementBytes = 2;

  // Sums 0 … 3 += inputs 4, 5 · weights 6, 7.
  static void multiply_all() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  static void multiply_first() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  static void multiply_second() {
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 7);
  }

  static Vec add(Vec sum, Vec total) { return total + sum; }
  static Vec finish(Vec total, const LinearBlock&, const Rows&, int64_t, int64_t) { return total; }
};

// Products of inputs 0 … 255 with int8, in int32: vectors are of these where they are called Vec.
struct Int8Tiles {
  using Rows = QuantizedBytes<kAmxBlockBytes, kMostTileBlockRows>;
  static constexpr int64_t kElementBytes = 1;

  static void multiply_all() {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  static void multiply_first() {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
  }
  static void multiply_second() {
    _tile_dpbusd(2, 4, 6);
    _tile_dpbusd(3, 4, 7);
  }

  static Vec add(Vec sum, Vec total) {
    return {_mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(sum.v), _mm512_castps_si512(total.v)))};
  }
  static Vec finish(Vec total, const LinearBlock& b, const Rows& rows, int64_t row,
                    int64_t column) {
    const Vec sum{_mm512_cvtepi32_ps(_mm512_castps_si512(total.v))};
    return dequantized(sum, {rows.ranges(row - b.row_begin), b.scales, b.sums}, 0, column);
  }
};

// Tiles of sums on their way to `out`, behind the rows in the caller's scratch.
template <typename Tiles>
struct AmxScratch {
  static constexpr int64_t kSums = 2 * kTileRows * kPanelWidth;
  static constexpr int64_t kBytes = Tiles::Rows::kBytes + kSums * int64_t{sizeof(float)};

  explicit AmxScratch(void* memory)
      : rows(memory),
        sums(reinterpret_cast<float*>(static_cast<uint8_t*>(memory) + Tiles::Rows::kBytes)) {}

  typename Tiles::Rows rows;
  float* const sums;  // [rows, panels · kPanelWidth]
};

inline void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

struct FetchNothing {
  void operator()(int64_t) const {}
};

// sums [32, 32] = 32 rows of inputs · a panel; rows of inputs are input_stride bytes apart, rows of
// sums sum_stride numbers. `fetch` is called in every step, for what will be needed later.
template <typename Tiles, typename Fetch = FetchNothing>
inline void multiply_2x2(const uint8_t* inputs, int64_t input_stride, const uint8_t* panel,
                         int64_t steps, float* sums, int64_t sum_stride, const Fetch& fetch = {}) {
  const uint8_t* below = inputs + kTileRows * input_stride;
  clear_sums();
  for (int64_t step = 0; step < steps; ++step) {
    _tile_loadd(4, inputs + step * kTileBytes, input_stride);
    _tile_loadd(5, below + step * kTileBytes, input_stride);
    const uint8_t* weights = panel + step * kTileRows * kPanelRowBytes;
    _tile_loadd(6, weights, kPanelRowBytes);
    _tile_loadd(7, weights + kTileBytes, kPanelRowBytes);
    Tiles::multiply_all();
    fetch(step);
  }
  const int64_t bytes = sum_stride * int64_t{sizeof(float)};
  _tile_stored(0, sums, bytes);
  _tile_stored(1, sums + 16, bytes);
  _tile_stored(2, sums + kTileRows * sum_stride, bytes);
  _tile_stored(3, sums + kTileRows * sum_stride + 16, bytes);
}

// sums [16, 64] = 16 rows of inputs · two panels, or [16, 32] of one, which are then the same twice
template <typename Tiles>
inline void multiply_1x4(const uint8_t* inputs, const uint8_t* panel, const uint8_t* next,
                         int64_t steps, float* sums) {
  constexpr int64_t kStride = Tiles::Rows::kStride;
  clear_sums();
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t at = step * kTileRows * kPanelRowBytes;
    _tile_loadd(4, inputs + step * kTileBytes, kStride);
    _tile_loadd(6, panel + at, kPanelRowBytes);
    _tile_loadd(7, panel + at + kTileBytes, kPanelRowBytes);
    Tiles::multiply_first();
    _tile_loadd(6, next + at, kPanelRowBytes);
    _tile_loadd(7, next + at + kTileBytes, kPanelRowBytes);
    Tiles::multiply_second();
  }
  constexpr int64_t kSumStride = 2 * kPanelWidth * int64_t{sizeof(float)};
  _tile_stored(0, sums, kSumStride);
  _tile_stored(1, sums + 16, kSumStride);
  _tile_stored(2, sums + 32, kSumStride);
  _tile_stored(3, sums + 48, kSumStride);
}

// Where in a product the sums belong.
struct SumsPlace {
  int64_t row, rows, column, cols;
  bool first, last;  // block of k
};

// What a strip fetches while it multiplies: its share of the next panel, and what finish_sums will
// read of `out` and of the residual.
class FetchForLater {
 public:
  FetchForLater(const LinearBlock& b, const SumsPlace& place, const uint8_t* weights, int64_t lines)
      : weights_(weights),
        lines_(lines),
        rows_(place.rows),
        out_(place.first ? nullptr : b.out + place.row * b.out_stride + place.column),
        out_stride_(b.out_stride),
        residual_(place.last && b.residual
                      ? b.residual + place.row * b.residual_stride + place.column
                      : nullptr),
        residual_stride_(b.residual_stride) {}

  void operator()(int64_t step) const {
    for (int64_t i = step * lines_; i < (step + 1) * lines_; ++i)
      _mm_prefetch(weights_ + i * kCacheLine, _MM_HINT_T1);
    for (int64_t row = 2 * step; row < 2 * step + 2 && row < rows_; ++row) {
      if (out_) fetch_row(out_ + row * out_stride_);
      if (residual_) fetch_row(residual_ + row * residual_stride_);
    }
  }

 private:
  static void fetch_row(const float* row) {
    _mm_prefetch(row, _MM_HINT_T0);
    _mm_prefetch(row + 16, _MM_HINT_T0);
  }

  const uint8_t* const weights_;
  const int64_t lines_;  // of weights a step
  const int64_t rows_;
  const float* const out_;  // or null
  const int64_t out_stride_;
  const float* const residual_;  // or null
  const int64_t residual_stride_;
};

// out += sums, or out = sums in the first block of k; after the last one also the rest of linear.
template <typename Tiles>
inline void finish_sums(const LinearBlock& b, const AmxScratch<Tiles>& scratch, int64_t stride,
                        const SumsPlace& at) {
  for (int64_t i = 0; i < at.rows; ++i) {
    float* out = b.out + (at.row + i) * b.out_stride + at.column;
    const float* residual =
        at.last && b.residual ? b.residual + (at.row + i) * b.residual_stride + at.column : nullptr;
    for (int64_t j = 0; j < at.cols; j += Vec::kLanes) {
      const int64_t lanes = at.cols - j < Vec::kLanes ? at.cols - j : Vec::kLanes;
      Vec y = load(scratch.sums + i * stride + j);
      if (!at.first) y = Tiles::add(y, load_lanes(out + j, lanes));
      if (at.last) {
        y = Tiles::finish(y, b, scratch.rows, at.row + i, at.column + j);
        y = y + load(b.bias + at.column + j);
        if (residual) y = y + load_lanes(residual + j, lanes);
        y = activate(b.activation, y);
      }
      store_lanes(out + j, y, lanes);
    }
  }
}

template <typename Tiles>
inline void linear_tiles(const LinearBlock& b) {
  constexpr int64_t kTileInputs = kTileBytes / Tiles::kElementBytes;
  constexpr int64_t kBlock = kAmxBlockBytes / Tiles::kElementBytes;
  const auto steps_of = [](int64_t inputs) { return (inputs + kTileInputs - 1) / kTileInputs; };
  AmxScratch<Tiles> scratch(b.scratch);
  const auto* panels = static_cast<const uint8_t*>(b.panels);
  // All strips together fetch a panel's block, two tiles a step.
  constexpr int64_t kLines = kTileRows * kPanelRowBytes / kCacheLine;
  const int64_t strips = (b.row_end - b.row_begin + 2 * kTileRows - 1) / (2 * kTileRows);
  const int64_t lines_a_step = (kLines + strips - 1) / strips;
  const int64_t panel_stride = steps_of(b.inputs) * kTileRows * kPanelRowBytes;
  configure_tiles();
  for (int64_t k = 0; k < b.inputs; k += kBlock) {
    const bool first = k == 0, last = k + kBlock >= b.inputs;
    const int64_t count = last ? b.inputs - k : kBlock;
    const int64_t steps = steps_of(count);
    scratch.rows.take(b, k, count);
    keep_stores(b.scratch);
    const auto cols_of = [&](int64_t column, int64_t most) {
      return b.outputs - column < most ? b.outputs - column : most;
    };
    for (int64_t panel = b.panel_begin; panel < b.panel_end; ++panel) {
      const int64_t column = panel * kPanelWidth;
      const uint8_t* weights =
          panels + panel * panel_stride + k / kTileInputs * kTileRows * kPanelRowBytes;
      // Behind the last panel of all there is nothing, which may be fetched too.
      const uint8_t* next = weights + panel_stride;
      int64_t row = b.row_begin;
      for (; b.row_end - row > kTileRows; row += 2 * kTileRows) {
        const int64_t rows = b.row_end - row < 2 * kTileRows ? b.row_end - row : 2 * kTileRows;
        const SumsPlace place{row, rows, column, cols_of(column, kPanelWidth), first, last};
        const FetchForLater fetch(b, place, next, lines_a_step);
        next += steps * lines_a_step * kCacheLine;
        multiply_2x2<Tiles>(scratch.rows.row(row - b.row_begin), Tiles::Rows::kStride, weights,
                            steps, scratch.sums, kPanelWidth, fetch);
        finish_sums(b, scratch, kPanelWidth, place);
      }
      // What is left of the rows takes two panels at a time: this one and the one behind it.
      if (row >= b.row_end || (panel - b.panel_begin) % 2 != 0) continue;
      const bool two = panel + 1 < b.panel_end;
      multiply_1x4<Tiles>(scratch.rows.row(row - b.row_begin), weights,
                          two ? weights + panel_stride : weights, steps, scratch.sums);
      const int64_t width = two ? 2 * kPanelWidth : kPanelWidth;
      finish_sums(b, scratch, 2 * kPanelWidth,
                  {row, b.row_end - row, column, cols_of(column, width), first, last});
    }
  }
  _tile_release();
}

}  // namespace vlt::VLT_KERNELS
