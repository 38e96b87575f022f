// linear on fours of int8: a step multiplies four inputs with four weights and adds all four
// products to an int32 sum.
//
// Layout     A panel's row is kPanelWidth fours (weights at k … k + 3), filled up with zeros. Inputs
//            are quantised (quantized_rows.h) a block of rows at a time: [rows, kBlock] in the
//            caller's scratch, an unsigned byte each.
// Roofline   Four times the multiply-adds of float32 for the same loads.
// Numerics   Sums of products are exact up to K = 2^31 / (255 · 127), whatever the order. They rest
//            in `out` between blocks of k, as the integers they are.
// Reference  linear in reference/reference_backend.cpp
#pragma once

#include <immintrin.h>

#include "kernels/cpu/quantized_bytes.h"
#include "kernels/cpu/simd_math.h"

namespace vlt::VLT_KERNELS {

struct Four {
  uint32_t bytes;
};
struct Fours {
  __m512i v;
};
struct IntVec {
  __m512i v;
};
inline Fours broadcast(Four four) { return {_mm512_set1_epi32(static_cast<int>(four.bytes))}; }
inline Fours load(const Four* p) { return {_mm512_loadu_si512(p)}; }
inline IntVec operator+(IntVec a, IntVec b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline void store(float* p, IntVec a) { _mm512_storeu_si512(p, a.v); }
inline IntVec fma(Fours inputs, Fours weights, IntVec sum) {
  return {_mm512_dpbusd_epi32(sum.v, inputs.v, weights.v)};
}
inline Vec to_float(IntVec a) { return {_mm512_cvtepi32_ps(a.v)}; }

}  // namespace vlt::VLT_KERNELS

// Behind the above, which its templates are to find.
#include "kernels/cpu/linear.h"

namespace vlt::VLT_KERNELS {

template <>
inline constexpr bool kIsQuantized<Four> = true;

template <>
struct Summation<Four> {
  static constexpr int64_t kLength = int64_t{1} << 62;  // never too long
  static IntVec none() { return {_mm512_setzero_si512()}; }
  static IntVec from(const float* out) { return {_mm512_loadu_si512(out)}; }
};

class FourInputs {
 public:
  using Input = Four;
  using Column = Four;
  static constexpr int64_t kGroup = 4;
  static constexpr int64_t kBlock = 3072;
  using Bytes = QuantizedBytes<kBlock, kMostBlockRows>;
  static constexpr int64_t kScratchBytes = Bytes::kBytes;

  explicit FourInputs(const LinearBlock& block) : b_(block), quantized_(block.scratch) {}

  void begin(int64_t k, int64_t count) { quantized_.take(b_, k, count); }
  const Four* row(int64_t row, int64_t) const {
    return reinterpret_cast<const Four*>(quantized_.row(row - b_.row_begin));
  }
  int64_t stride() const { return Bytes::kStride / kGroup; }
  const RowRange* ranges(int64_t row) const { return quantized_.ranges(row - b_.row_begin); }

 private:
  const LinearBlock& b_;
  Bytes quantized_;
};

inline void linear_fours(const LinearBlock& b) { linear_with<FourInputs>(b); }

}  // namespace vlt::VLT_KERNELS
