// linear on pairs of bfloat16: a step multiplies two k's and adds both products to a float32 sum.
//
// Layout     A panel's row is kPanelWidth pairs (weight at k, weight at k + 1); an odd K ends in a
//            zero. Inputs are rounded to bfloat16, to the nearest even, once a block of k: [rows,
//            kInputBlock] in the caller's scratch.
// Roofline   Twice the multiply-adds of float32 for the same loads.
// Numerics   As micro_gemm.h says, with pairs for k's. Rounding inputs to 8 bits errs far more.
// Reference  linear in reference/reference_backend.cpp, on rounded inputs and weights
#pragma once

#include <immintrin.h>

#include "kernels/cpu/simd_math.h"

namespace vlt::VLT_KERNELS {

struct Pairs {
  __m512i v;
};
inline Pairs broadcast(uint32_t pair) { return {_mm512_set1_epi32(static_cast<int>(pair))}; }
inline Pairs load(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
inline Vec fma(Pairs a, Pairs b, Vec c) {
  return {_mm512_dpbf16_ps(c.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}

}  // namespace vlt::VLT_KERNELS

// Behind the above, which its templates are to find.
#include "kernels/cpu/linear.h"

namespace vlt::VLT_KERNELS {

class PairedInputs {
 public:
  using Input = uint32_t;
  using Column = uint32_t;
  static constexpr int64_t kGroup = 2;
  static constexpr int64_t kBlock = kInputBlock;
  // A cache line more than a block: rows a multiple of 1 KiB apart would share cache sets.
  static constexpr int64_t kStride = kInputBlock / kGroup + 16;
  static constexpr int64_t kScratchBytes = kMostBlockRows * kStride * int64_t{sizeof(uint32_t)};

  explicit PairedInputs(const LinearBlock& block)
      : b_(block), pairs_(static_cast<uint32_t*>(block.scratch)) {}

  void begin(int64_t k, int64_t count) {
    for (int64_t row = b_.row_begin; row < b_.row_end; ++row) {
      const float* in = b_.in + row * b_.in_stride + k;
      uint32_t* out = pairs_ + (row - b_.row_begin) * kStride;
      for (int64_t j = 0; j < count; j += Vec::kLanes) {
        const int64_t lanes = count - j < Vec::kLanes ? count - j : Vec::kLanes;
        const __m256bh rounded = _mm512_cvtneps_pbh(load_lanes(in + j, lanes).v);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j / kGroup),
                            reinterpret_cast<__m256i>(rounded));
      }
    }
  }

  const uint32_t* row(int64_t row, int64_t) const {
    return pairs_ + (row - b_.row_begin) * kStride;
  }
  int64_t stride() const { return kStride; }

 private:
  const LinearBlock& b_;
  uint32_t* const pairs_;
};

inline void linear_pairs(const LinearBlock& b) { linear_with<PairedInputs>(b); }

}  // namespace vlt::VLT_KERNELS
