// Eight float32 lanes in one AVX register, with FMA. Same interface as simd_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace vlt::VLT_KERNELS {

struct Vec {
  __m256 v;
  static constexpr int kLanes = 8;
  static constexpr int kRegisters = 16;
  static constexpr bool kFusesMultiplyAdd = true;
};

inline Vec zero() { return {_mm256_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
// bfloat16 is the upper half of a float32.
inline Vec load(const uint16_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
}
inline Vec load(const int8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))};
}
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }

// The first n lanes (0 < n <= 8); the others read as zero and are not written.
inline __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec load_first(const float* p, int64_t n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
inline void store_first(float* p, Vec a, int64_t n) { _mm256_maskstore_ps(p, first_lanes(n), a.v); }

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// A NaN in b is the result, one in a is not: the value goes second, the bound first.
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline Vec round(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// a · 2^n for integral n >= -126: n is added to the exponent bits.
inline Vec scale_by_power_of_two(Vec a, Vec n) {
  const __m256i exponent =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
  return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(exponent))};
}
inline Vec select_less(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {_mm256_blendv_ps(otherwise.v, if_less.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}

// For a positive normal a: the integral n with a = m · 2^n, and m in [√½, √2).
inline Vec split_power_of_two(Vec a, Vec& m) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i half_root = _mm256_set1_epi32(0x3f3504f3);
  const __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, half_root), 23);
  m.v = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)));
  return {_mm256_cvtepi32_ps(n)};
}

// Lane c of the result is lane index[c] - index[0] of a, which has it.
inline Vec pick(Vec a, const int32_t* index) {
  const __m256i lanes = _mm256_sub_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), _mm256_set1_epi32(index[0]));
  return {_mm256_permutevar8x32_ps(a.v, lanes)};
}

// Halves are folded onto each other: 8 lanes in three steps, always in this order.
inline float reduce_add(Vec a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(Vec a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// columns[c] = lane c of rows[0 … 7]: transposes within 4 × 4 blocks, then the blocks.
inline void transpose(const Vec (&rows)[8], Vec (&columns)[8]) {
  __m256 quads[8];
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    const __m256 low01 = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    const __m256 high01 = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
    const __m256 low23 = _mm256_unpacklo_ps(rows[i + 2].v, rows[i + 3].v);
    const __m256 high23 = _mm256_unpackhi_ps(rows[i + 2].v, rows[i + 3].v);
    quads[i] = _mm256_shuffle_ps(low01, low23, 0x44);
    quads[i + 1] = _mm256_shuffle_ps(low01, low23, 0xee);
    quads[i + 2] = _mm256_shuffle_ps(high01, high23, 0x44);
    quads[i + 3] = _mm256_shuffle_ps(high01, high23, 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    columns[c].v = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20);
    columns[4 + c].v = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31);
  }
}

}  // namespace vlt::VLT_KERNELS
