// The register tile of every matrix product: M rows times V vectors of a prepacked panel.
//
//   out[i][j] = sum over k of in[i][k] · panel[k][j]
//               (+ what out held) (+ bias[j]) (+ residual[i][j])
//
// Mapping    M·V accumulators stay in registers for the whole k loop; each k loads V vectors of the
//            panel and M inputs once each, straight from memory. `in` is not packed.
// Registers  AVX-512: 14 × 2 accumulators + 2 + 1 of 32. AVX2 and SSE: 6 × 2 + 2 + 1 of 16. NEON:
//            6 × 4 + 4 + 1 of 32: 10 loads for 24 multiply-adds, where 14 × 2 has 16 for 28, and
//            a panel's row is a cache line. A few rows take two or four panels at once, to have ≥ 8
//            independent sums: two multiply-adds a cycle times four cycles of latency.
// Roofline   14 × 32 does 28 multiply-adds on 16 loads of k: bound by arithmetic from L2 on.
// Weights    float32; bfloat16 or int8, widened as they are loaded; or pairs of bfloat16 or fours of
//            int8 beside as many inputs (dot_products.h, int8_products.h), where a k is two or four.
// Numerics   Each element is the sum, in order, of sums of kSumLength products, k ascending. That
//            does not depend on M or V, so tile shapes never change bits.
// Reference  linear in reference/reference_backend.cpp
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/quantized_rows.h"

namespace vlt::VLT_KERNELS {

constexpr int kPanelVectors = Vec::kRegisters == 32 && Vec::kLanes == 4 ? 4 : 2;
constexpr int kPanelWidth = kPanelVectors * Vec::kLanes;
// The most for which accumulators, a row of the panel and one input fit the registers.
constexpr int kStripRows = (Vec::kRegisters - kPanelVectors - 1) / kPanelVectors;

constexpr int64_t kCacheLine = 64;

inline int64_t num_panels(int64_t cols) { return (cols + kPanelWidth - 1) / kPanelWidth; }

// One running sum of K products errs by about √(K/2) roundings, sums of 128 by √64 at most plus a
// few: BERT-base's states are then twice as exact, for 2 % more time. Without a fused multiply-add
// every step rounds twice.
constexpr int64_t kSumLength = Vec::kFusesMultiplyAdd ? 128 : 64;

// What a sum of products of quantised numbers stands for: scales[j] · (step[i] · sum + least[i] ·
// sums[j]), as quantized_rows.h has it.
struct Dequantization {
  const RowRange* rows;  // null before the last block of k
  const float* scales;
  const float* sums;
};

template <typename Weight>
constexpr bool kIsQuantized = false;
template <>
inline constexpr bool kIsQuantized<int8_t> = true;

// How products of such inputs add up: the type of a sum, and how many a run has.
template <typename In>
struct Summation {
  static constexpr int64_t kLength = kSumLength;
  static Vec none() { return zero(); }
  static Vec from(const float* out) { return load(out); }
};
inline Vec to_float(Vec sum) { return sum; }

template <typename In, typename Weight>
struct TileOf {
  const In* in;
  int64_t in_stride;
  const Weight* panels;
  int64_t panel_stride;  // distance of two panels, when a tile spans several
  int64_t inputs;        // length of the k loop
  float* out;
  int64_t out_stride;
  bool accumulate;        // add to what `out` holds
  const float* bias;      // or null
  const float* residual;  // or null
  int64_t residual_stride;
  Dequantization dequantization{};  // where kIsQuantized<Weight>
  const void* ahead = nullptr;      // what to fetch into L2 meanwhile, a line with every k; or null
};
using Tile = TileOf<float, float>;

inline Vec dequantized(Vec sum, const Dequantization& d, int64_t row, int64_t column) {
  const RowRange& r = d.rows[row];
  const Vec rest = broadcast(r.least) * load(d.sums + column);
  return fma(broadcast(r.step), sum, rest) * load(d.scales + column);
}

// Every loop over the accumulators must be unrolled: gcc 12 else keeps them on the stack.
template <int M, int V, typename In, typename Weight>
inline void micro_gemm(const TileOf<In, Weight>& t) {
  using Sums = Summation<In>;
  const Weight* panel = t.panels;
  const char* ahead = static_cast<const char*>(t.ahead ? t.ahead : t.panels);
  bool have_total = t.accumulate;
  for (int64_t begin = 0;; begin += Sums::kLength) {
    const bool last = begin + Sums::kLength >= t.inputs;
    const int64_t end = last ? t.inputs : begin + Sums::kLength;
    decltype(Sums::none()) sum[M][V];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) sum[i][j] = Sums::none();

    for (int64_t k = begin; k < end; ++k, panel += kPanelWidth, ahead += kCacheLine) {
      // Several panels at once are for a few rows that are all there is: see linear.h.
      if constexpr (V == kPanelVectors) __builtin_prefetch(ahead, 0, 2);
      const auto column = [&](int j) {
        return load(panel + (j / kPanelVectors) * t.panel_stride +
                    (j % kPanelVectors) * Vec::kLanes);
      };
      // Whichever are fewer wait in registers, inputs or columns. A product that is rounded before
      // it is added takes a register more, which 3 inputs beside 12 sums do not leave.
      if constexpr (M < V && Vec::kFusesMultiplyAdd) {
        decltype(broadcast(In{})) x[M];
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) x[i] = broadcast(t.in[i * t.in_stride + k]);
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) {
          const auto c = column(j);
#pragma GCC unroll 16
          for (int i = 0; i < M; ++i) sum[i][j] = fma(x[i], c, sum[i][j]);
        }
      } else {
        decltype(column(0)) c[V];
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) c[j] = column(j);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
          const auto x = broadcast(t.in[i * t.in_stride + k]);
#pragma GCC unroll 16
          for (int j = 0; j < V; ++j) sum[i][j] = fma(x, c[j], sum[i][j]);
        }
      }
    }

#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) {
        float* out = t.out + i * t.out_stride + j * Vec::kLanes;
        auto total = sum[i][j];
        if (have_total) total = Sums::from(out) + total;
        Vec y = to_float(total);
        if constexpr (kIsQuantized<Weight>) {
          if (!last || !t.dequantization.rows) {
            store(out, total);
            continue;
          }
          y = dequantized(y, t.dequantization, i, j * Vec::kLanes);
        }
        if (last && t.bias) y = y + load(t.bias + j * Vec::kLanes);
        if (last && t.residual) y = y + load(t.residual + i * t.residual_stride + j * Vec::kLanes);
        store(out, y);
      }
    if (last) return;
    have_total = true;
  }
}

// Calls the tile for a number of rows known only at run time, 1 … M.
template <int M, int V, typename In, typename Weight>
inline void run_tile(int64_t rows, const TileOf<In, Weight>& t) {
  if constexpr (M == 1) {
    micro_gemm<1, V>(t);
  } else {
    if (rows == M) {
      micro_gemm<M, V>(t);
    } else {
      run_tile<M - 1, V>(rows, t);
    }
  }
}

// Several panels one after the other, whole in `out`.
template <typename In, typename Weight>
inline void run_panels(int64_t rows, int64_t count, TileOf<In, Weight> t) {
  for (int64_t panel = 0; panel < count; ++panel) {
    run_tile<kStripRows, kPanelVectors>(rows, t);
    t.panels += t.panel_stride;
    t.out += kPanelWidth;
  }
}

// One panel wide, of which only `cols` columns exist in `out` and `residual`.
template <typename In, typename Weight>
inline void run_partial_tile(int64_t rows, int64_t cols, const TileOf<In, Weight>& t) {
  alignas(64) float out[kStripRows * kPanelWidth];
  alignas(64) float residual[kStripRows * kPanelWidth];
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < kPanelWidth; ++j) {
      out[i * kPanelWidth + j] = t.accumulate && j < cols ? t.out[i * t.out_stride + j] : 0.0f;
      residual[i * kPanelWidth + j] =
          t.residual && j < cols ? t.residual[i * t.residual_stride + j] : 0.0f;
    }
  TileOf<In, Weight> whole = t;
  whole.out = out;
  whole.out_stride = kPanelWidth;
  if (t.residual) whole.residual = residual;
  whole.residual_stride = kPanelWidth;
  run_tile<kStripRows, kPanelVectors>(rows, whole);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) t.out[i * t.out_stride + j] = out[i * kPanelWidth + j];
}

// The same, where of the last panel only the columns up to `cols` exist in `out`.
template <typename In, typename Weight>
inline void run_columns(int64_t rows, int64_t cols, TileOf<In, Weight> t) {
  run_panels(rows, cols / kPanelWidth, t);
  t.panels += cols / kPanelWidth * t.panel_stride;
  t.out += cols / kPanelWidth * kPanelWidth;
  if (cols % kPanelWidth > 0) run_partial_tile(rows, cols % kPanelWidth, t);
}

// Rows cut into the fewest strips of at most `most`, as equal as they can be.
struct Strips {
  int64_t rows;
  int64_t count;

  explicit Strips(int64_t num_rows, int64_t most = kStripRows)
      : rows(num_rows), count((num_rows + most - 1) / most) {}
  int64_t begin(int64_t strip) const { return rows * strip / count; }
};

}  // namespace vlt::VLT_KERNELS
