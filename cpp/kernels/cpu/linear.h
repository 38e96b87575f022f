// linear: out = activation(in [M, K] · weightᵀ [K, N] + bias + residual), for a block of it.
//
// Layout     The weight is prepacked in panels of kPanelWidth columns, k-major, zero-padded. It is
//            float32, bfloat16 or int8; inputs and sums are float32, beside int8 quantised ones.
// Mapping    k blocks (outermost) → groups of panels → strips of rows. A panel's k block stays in
//            L2 while all strips of the row block pass over it, each fetching its part of the next
//            panel's meanwhile: else every panel would begin with waiting for L3.
// Roofline   2·M·N·K flops; a strip of 14 rows reads a panel of K·128 bytes for K·896 flops.
// Numerics   As micro_gemm.h says; between k blocks the total rests in `out`, which is exact.
// Reference  linear in reference/reference_backend.cpp
#pragma once

#include "kernels/cpu/micro_gemm.h"
#include "kernels/cpu/simd_math.h"

namespace vlt::VLT_KERNELS {

// All of K in most models: totals that rest in `out` between blocks cost more than a panel's block of
// 384 KiB, which is more than L1 but streams from L2 (92 and 89 % of the peak at K = 3072 instead of
// 89 and 84 with blocks of 768, Zen 5).
constexpr int64_t kInputBlock = 3072;
static_assert(kInputBlock % kSumLength == 0, "else the blocks would change the order of sums");

inline void activate_tile(Activation activation, float* out, int64_t stride, int64_t rows,
                          int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    float* row = out + i * stride;
    for (int64_t j = 0; j < cols; j += Vec::kLanes) {
      const int64_t lanes = cols - j < Vec::kLanes ? cols - j : Vec::kLanes;
      store_lanes(row + j, activate(activation, load_lanes(row + j, lanes)), lanes);
    }
  }
}

// How many panels one tile spans, so that few rows still fill the registers with sums. One row waits
// for memory instead: with one panel after the other its weights are a single stream, which the
// processor's prefetching follows best (int8, K = 768: 88 % of the rate of reading, four panels at
// once 78 %; Zen 4). Narrow vectors would then wait for their sums.
inline int64_t panels_per_tile(int64_t strip_rows) {
  if (strip_rows == 1 && Vec::kLanes >= 8) return 1;
  if (strip_rows * 4 <= kStripRows) return 4;
  if (strip_rows * 2 <= kStripRows) return 2;
  return 1;
}

template <typename In, typename Weight>
inline void run_full_tile(int64_t panels, int64_t rows, const TileOf<In, Weight>& tile) {
  constexpr int kRows2 = kStripRows / 2;
  constexpr int kRows4 = kStripRows / 4;
  if (panels == 4) {
    run_tile<kRows4, 4 * kPanelVectors>(rows, tile);
  } else if (panels == 2) {
    run_tile<kRows2, 2 * kPanelVectors>(rows, tile);
  } else {
    run_tile<kStripRows, kPanelVectors>(rows, tile);
  }
}

// Inputs as they are: one k at a time.
template <typename Weight>
struct PlainInputs {
  using Input = float;
  using Column = Weight;
  static constexpr int64_t kGroup = 1;
  static constexpr int64_t kBlock = kInputBlock;

  explicit PlainInputs(const LinearBlock& block) : b(block) {}
  void begin(int64_t, int64_t) {}
  const float* row(int64_t row, int64_t k) const { return b.in + row * b.in_stride + k; }
  int64_t stride() const { return b.in_stride; }

  const LinearBlock& b;
};

// Inputs as the numbers 0 … 255 that they are quantised to: products with weights of int8 and runs
// of them are exact in float32.
class QuantizedInputs {
 public:
  using Input = float;
  using Column = int8_t;
  static constexpr int64_t kGroup = 1;
  static constexpr int64_t kBlock = 768;
  static_assert(kSumLength * 255 * 127 < 1 << 24);
  // A cache line more than a block: rows a multiple of 1 KiB apart would share cache sets.
  static constexpr int64_t kStride = kBlock + 16;
  static constexpr int64_t kScratchBytes =
      kMostBlockRows * (kStride * int64_t{sizeof(float)} + int64_t{sizeof(RowRange)});

  explicit QuantizedInputs(const LinearBlock& block)
      : b_(block),
        numbers_(static_cast<float*>(block.scratch)),
        ranges_(reinterpret_cast<RowRange*>(numbers_ + kMostBlockRows * kStride)) {}

  void begin(int64_t k, int64_t count) {
    const float* factors = b_.input_factors ? b_.input_factors + k : nullptr;
    for (int64_t i = 0; i < b_.row_end - b_.row_begin; ++i) {
      const float* in = b_.in + (b_.row_begin + i) * b_.in_stride;
      if (k == 0) ranges_[i] = range_of(in, b_.input_factors, b_.inputs);
      for (int64_t j = 0; j < count; j += Vec::kLanes) {
        const int64_t lanes = count - j < Vec::kLanes ? count - j : Vec::kLanes;
        const Vec x = scaled_input(in + k, factors, j, lanes);
        store(numbers_ + i * kStride + j, quantized(x, ranges_[i]));
      }
    }
  }
  const float* row(int64_t row, int64_t) const { return numbers_ + (row - b_.row_begin) * kStride; }
  int64_t stride() const { return kStride; }
  const RowRange* ranges(int64_t row) const { return ranges_ + (row - b_.row_begin); }

 private:
  const LinearBlock& b_;
  float* const numbers_;
  RowRange* const ranges_;
};

// `Inputs` says what the kernel reads of the block's inputs, kGroup of them at a time, and gets
// ready for a block of k.
template <typename Inputs>
inline void linear_with(const LinearBlock& b) {
  Inputs inputs(b);
  constexpr int64_t kGroup = Inputs::kGroup;
  const Strips strips(b.row_end - b.row_begin);
  if (strips.rows <= 0) return;
  const int64_t widest_strip = (strips.rows + strips.count - 1) / strips.count;
  const int64_t widest_group = panels_per_tile(widest_strip);
  const auto* panels = static_cast<const typename Inputs::Column*>(b.panels);
  const int64_t panel_stride = (b.inputs + kGroup - 1) / kGroup * kPanelWidth;

  for (int64_t k = 0; k < b.inputs; k += Inputs::kBlock) {
    const bool last = k + Inputs::kBlock >= b.inputs;
    const int64_t block = last ? b.inputs - k : Inputs::kBlock;
    inputs.begin(k, block);
    int64_t group = 1;
    for (int64_t panel = b.panel_begin; panel < b.panel_end; panel += group) {
      group = widest_group;
      while (group > 1 &&
             (panel + group > b.panel_end || (panel + group) * kPanelWidth > b.outputs))
        group /= 2;
      const int64_t column = panel * kPanelWidth;
      const int64_t cols = b.outputs - column;  // may exceed the group's width
      for (int64_t strip = 0; strip < strips.count; ++strip) {
        const int64_t row = b.row_begin + strips.begin(strip);
        const int64_t rows = b.row_begin + strips.begin(strip + 1) - row;
        TileOf<typename Inputs::Input, typename Inputs::Column> tile;
        tile.in = inputs.row(row, k);
        tile.in_stride = inputs.stride();
        tile.panels = panels + panel * panel_stride + k / kGroup * kPanelWidth;
        tile.panel_stride = panel_stride;
        tile.inputs = (block + kGroup - 1) / kGroup;
        tile.out = b.out + row * b.out_stride + column;
        tile.out_stride = b.out_stride;
        tile.accumulate = k > 0;
        // Each strip fetches its part of the next panels. Where there is one strip only, nothing is
        // reused, and the processor's own prefetching is enough.
        if (strips.count > 1)
          tile.ahead = tile.panels +
                       group * (panel_stride + tile.inputs * kPanelWidth * strip / strips.count);
        tile.bias = last ? b.bias + column : nullptr;
        tile.residual =
            last && b.residual ? b.residual + row * b.residual_stride + column : nullptr;
        tile.residual_stride = b.residual_stride;
        if constexpr (kIsQuantized<typename Inputs::Column>) {
          if (last) tile.dequantization = {inputs.ranges(row), b.scales + column, b.sums + column};
        }
        if (cols >= group * kPanelWidth) {
          run_full_tile(group, rows, tile);
        } else {
          run_partial_tile(rows, cols, tile);
        }
        if (last && b.activation != Activation::kIdentity) {
          const int64_t width = group * kPanelWidth;
          activate_tile(b.activation, tile.out, b.out_stride, rows, cols < width ? cols : width);
        }
      }
    }
  }
}

inline void linear(const LinearBlock& b) { linear_with<PlainInputs<float>>(b); }
inline void linear_bfloat16(const LinearBlock& b) { linear_with<PlainInputs<uint16_t>>(b); }
inline void linear_int8(const LinearBlock& b) { linear_with<QuantizedInputs>(b); }

}  // namespace vlt::VLT_KERNELS
