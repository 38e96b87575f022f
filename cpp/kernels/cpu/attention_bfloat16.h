// attention on bfloat16: queries, keys, values and probabilities are rounded to it, products of pairs
// are added up in float32.
//
// Layout     Keys: panels of pairs of head elements (d, d + 1) of kPanelWidth keys. Values: panels of
//            pairs of keys (j, j + 1) of kPanelWidth elements. Both are filled up with zeros, D and L
//            to multiples of 32, which is a tile of AMX. A row of probabilities takes the first half
//            of its scores' place.
// Numerics   Scores, their maximum, exponentials and their sum are float32. Rounding q and k errs by
//            2^-8 of |q|·|k|·scale at most, rounding a probability by 2^-9 of it.
// Reference  attention in reference/reference_backend.cpp
#pragma once

#include <immintrin.h>

#include "kernels/cpu/attention.h"

namespace vlt::VLT_KERNELS {

constexpr int64_t kPairsAtOnce = 16;

// Pairs that `count` numbers take, up to a multiple of 16.
inline int64_t whole_pairs(int64_t count) { return (count + 31) / 32 * kPairsAtOnce; }

inline Vec bits_of(__m512bh pairs) {
  return {_mm512_castsi512_ps(reinterpret_cast<__m512i>(pairs))};
}

// The next 32 of `left` numbers as pairs; zeros behind them.
inline Vec load_pairs(const float* p, int64_t left) {
  const auto part = [&](int64_t from) {
    return left - from >= Vec::kLanes ? load(p + from)
           : left > from              ? load_first(p + from, left - from)
                                      : zero();
  };
  return bits_of(_mm512_cvtne2ps_pbh(part(Vec::kLanes).v, part(0).v));
}

class Bfloat16Operands {
 public:
  static constexpr int64_t kKeysAtOnce = 32;

  static int64_t scratch(int64_t length, int64_t head_size) {
    return num_panels(length) * whole_pairs(head_size) * kPanelWidth +
           num_panels(head_size) * whole_pairs(length) * kPanelWidth;
  }

  Bfloat16Operands(const AttentionHead& head, float* scratch)
      : h_(head),
        key_stride_(whole_pairs(head.head_size) * kPanelWidth),
        value_stride_(whole_pairs(head.length) * kPanelWidth),
        keys_(scratch),
        values_(keys_ + num_panels(head.length) * key_stride_) {
    pack_keys();
    pack_values();
  }

  static Vec power_of_two(Vec t) { return exp2_coarse(t); }
  static void keep(float* scores, int64_t j, Vec probability) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<uint16_t*>(scores) + j),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(probability.v)));
  }

 protected:
  // out [rows, stride] of pairs: the queries from `begin` on
  void round_queries(int64_t begin, int64_t rows, float* out, int64_t stride) const {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t d = 0; d < h_.head_size; d += 32)
        store(out + i * stride + d / 2,
              load_pairs(h_.query + (begin + i) * h_.stride + d, h_.head_size - d));
  }

  const AttentionHead& h_;
  const int64_t key_stride_, value_stride_;  // pairs from panel to panel
  float* const keys_;
  float* const values_;

 private:
  // keys[p][pair of d][j]
  void pack_keys() const {
    Vec rows[16], columns[16];
    for (int64_t begin = 0; begin < num_panels(h_.length) * kPanelWidth; begin += 16) {
      float* out = keys_ + begin / kPanelWidth * key_stride_ + begin % kPanelWidth;
      for (int64_t d = 0; d < h_.head_size; d += 32) {
        for (int64_t i = 0; i < 16; ++i)
          rows[i] = begin + i < h_.length
                        ? load_pairs(h_.key + (begin + i) * h_.stride + d, h_.head_size - d)
                        : zero();
        transpose(rows, columns);
        for (int64_t i = 0; i < 16; ++i, out += kPanelWidth) store(out, columns[i]);
      }
    }
  }

  // values[p][pair of j][d]
  void pack_values() const {
    alignas(64) static constexpr uint16_t kAlternating[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i alternating = _mm512_load_si512(kAlternating);
    for (int64_t column = 0; column < num_panels(h_.head_size) * kPanelWidth;
         column += Vec::kLanes) {
      float* out = values_ + column / kPanelWidth * value_stride_ + column % kPanelWidth;
      const int64_t left = h_.head_size - column;
      const auto part = [&](int64_t j) {
        if (j >= h_.length || left <= 0) return zero();
        const float* value = h_.value + j * h_.stride + column;
        return left >= Vec::kLanes ? load(value) : load_first(value, left);
      };
      for (int64_t pair = 0; pair < whole_pairs(h_.length); ++pair, out += kPanelWidth) {
        const __m512bh both = _mm512_cvtne2ps_pbh(part(2 * pair + 1).v, part(2 * pair).v);
        _mm512_storeu_si512(out,
                            _mm512_permutexvar_epi16(alternating, reinterpret_cast<__m512i>(both)));
      }
    }
  }
};

}  // namespace vlt::VLT_KERNELS
