// A block of rows of inputs, quantised (quantized_rows.h) to bytes by AVX-512, a block of k at a
// time.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/quantized_rows.h"

namespace vlt::VLT_KERNELS {

// Lies in a caller's scratch of kBytes.
template <int64_t kBlock, int64_t kMostRows>
class QuantizedBytes {
 public:
  // A cache line more than a block: rows a multiple of 1 KiB apart would share cache sets.
  static constexpr int64_t kStride = kBlock + 64;
  static constexpr int64_t kRows = (kMostRows + 15) / 16 * 16;
  static constexpr int64_t kBytes = kRows * (kStride + int64_t{sizeof(RowRange)});

  explicit QuantizedBytes(void* scratch)
      : bytes_(static_cast<uint8_t*>(scratch)),
        ranges_(reinterpret_cast<RowRange*>(bytes_ + kRows * kStride)) {}

  // The block's inputs k … k + count - 1, count ≤ kBlock, and behind them numbers for weights of
  // zero, up to a multiple of 64. The first block of k finds the ranges of whole rows.
  void take(const LinearBlock& b, int64_t k, int64_t count) {
    const float* factors = b.input_factors ? b.input_factors + k : nullptr;
    for (int64_t row = b.row_begin; row < b.row_end; ++row) {
      const float* in = b.in + row * b.in_stride;
      RowRange& range = ranges_[row - b.row_begin];
      if (k == 0) range = range_of(in, b.input_factors, b.inputs);
      quantize_row(in + k, factors, count, range, bytes_ + (row - b.row_begin) * kStride);
    }
  }

  // By row of the block, from 0.
  const uint8_t* row(int64_t i) const { return bytes_ + i * kStride; }
  const RowRange* ranges(int64_t i) const { return ranges_ + i; }

 private:
  static void quantize_row(const float* in, const float* factors, int64_t count,
                           const RowRange& range, uint8_t* out) {
    const auto numbers = [&](int64_t j, int64_t lanes) {  // rounds as quantized() does
      return _mm512_cvtps_epi32(steps_above_least(scaled_input(in, factors, j, lanes), range).v);
    };
    int64_t j = 0;
    // Packs put the lanes of four vectors side by side: 4 bytes of each, lane by lane.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (; j + 64 <= count; j += 64) {
      const __m512i low = _mm512_packs_epi32(numbers(j, 16), numbers(j + 16, 16));
      const __m512i high = _mm512_packs_epi32(numbers(j + 32, 16), numbers(j + 48, 16));
      _mm512_storeu_si512(out + j, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
    }
    for (; j < count; j += Vec::kLanes) {
      const int64_t lanes = count - j < Vec::kLanes ? count - j : Vec::kLanes;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + j),
                       _mm512_cvtusepi32_epi8(numbers(j, lanes)));
    }
  }

  uint8_t* const bytes_;
  RowRange* const ranges_;
};

}  // namespace vlt::VLT_KERNELS
