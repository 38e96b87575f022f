// Sixteen float32 lanes in one AVX-512 register. Same interface as simd_avx2.h, simd_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace vlt::VLT_KERNELS {

struct Vec {
  __m512 v;
  static constexpr int kLanes = 16;
  static constexpr int kRegisters = 32;
  static constexpr bool kFusesMultiplyAdd = true;
};

inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
// bfloat16 is the upper half of a float32.
inline Vec load(const uint16_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
inline Vec load(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }

// The first n lanes (0 < n <= 16); the others read as zero and are not written.
inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline Vec load_first(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(first_lanes(n), p)};
}
inline void store_first(float* p, Vec a, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), a.v);
}

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// A NaN in b is the result, one in a is not: the value goes second, the bound first.
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
inline Vec round(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// a · 2^n for integral n
inline Vec scale_by_power_of_two(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline Vec select_less(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), otherwise.v, if_less.v)};
}

// For a positive normal a: the integral n with a = m · 2^n, and m in [√½, √2).
inline Vec split_power_of_two(Vec a, Vec& m) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i half_root = _mm512_set1_epi32(0x3f3504f3);
  const __m512i n = _mm512_srai_epi32(_mm512_sub_epi32(bits, half_root), 23);
  m.v = _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(n, 23)));
  return {_mm512_cvtepi32_ps(n)};
}

// Lane c of the result is lane index[c] - index[0] of a, which has it.
inline Vec pick(Vec a, const int32_t* index) {
  const __m512i lanes = _mm512_sub_epi32(_mm512_loadu_si512(index), _mm512_set1_epi32(index[0]));
  return {_mm512_permutexvar_ps(lanes, a.v)};
}

// Halves are folded onto each other: 16 lanes in four steps, always in this order.
inline float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }

// columns[c] = lane c of rows[0 … 15]: transposes within 4 × 4 blocks, then the blocks.
inline void transpose(const Vec (&rows)[16], Vec (&columns)[16]) {
  __m512 pairs[16], quads[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    pairs[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    pairs[i + 2] = _mm512_unpacklo_ps(rows[i + 2].v, rows[i + 3].v);
    pairs[i + 3] = _mm512_unpackhi_ps(rows[i + 2].v, rows[i + 3].v);
    quads[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  // quads[4g + c] now holds, in its 128-bit part p, column 4p + c of rows 4g … 4g + 3
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512 low02 = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0x88);
    const __m512 low13 = _mm512_shuffle_f32x4(quads[c], quads[4 + c], 0xdd);
    const __m512 high02 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0x88);
    const __m512 high13 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], 0xdd);
    columns[c].v = _mm512_shuffle_f32x4(low02, high02, 0x88);
    columns[8 + c].v = _mm512_shuffle_f32x4(low02, high02, 0xdd);
    columns[4 + c].v = _mm512_shuffle_f32x4(low13, high13, 0x88);
    columns[12 + c].v = _mm512_shuffle_f32x4(low13, high13, 0xdd);
  }
}

}  // namespace vlt::VLT_KERNELS
