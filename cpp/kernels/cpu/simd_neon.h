// Four float32 lanes in one NEON register of AArch64, with fused multiply-add. Same interface as
// simd_avx512.h.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace vlt::VLT_KERNELS {

struct Vec {
  float32x4_t v;
  static constexpr int kLanes = 4;
  static constexpr int kRegisters = 32;
  static constexpr bool kFusesMultiplyAdd = true;
};

inline Vec zero() { return {vdupq_n_f32(0)}; }
inline Vec broadcast(float x) { return {vdupq_n_f32(x)}; }
inline Vec load(const float* p) { return {vld1q_f32(p)}; }
// bfloat16 is the upper half of a float32.
inline Vec load(const uint16_t* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))}; }
inline Vec load(const int8_t* p) {
  int32_t four = 0;
  __builtin_memcpy(&four, p, sizeof(four));
  const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))};
}
inline void store(float* p, Vec a) { vst1q_f32(p, a.v); }

// The first n lanes (0 < n <= 4); the others read as zero and are not written.
inline Vec load_first(const float* p, int64_t n) {
  if (n == 4) return load(p);
  if (n == 1) return {vld1q_lane_f32(p, vdupq_n_f32(0), 0)};
  const float32x4_t two = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
  return {n == 2 ? two : vld1q_lane_f32(p + 2, two, 2)};
}
inline void store_first(float* p, Vec a, int64_t n) {
  if (n == 4) return store(p, a);
  if (n == 1) return vst1q_lane_f32(p, a.v, 0);
  vst1_f32(p, vget_low_f32(a.v));
  if (n == 3) vst1q_lane_f32(p + 2, a.v, 2);
}

inline Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
// A NaN in b is the result, one in a is not: the value goes second, the bound first. A comparison,
// since NEON's own maximum and minimum give NaN for one on either side.
inline Vec max(Vec a, Vec b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
inline Vec abs(Vec a) { return {vabsq_f32(a.v)}; }
inline Vec round(Vec a) { return {vrndnq_f32(a.v)}; }
// a · 2^n for integral n >= -126: n is added to the exponent bits.
inline Vec scale_by_power_of_two(Vec a, Vec n) {
  const int32x4_t exponent = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.v), vdupq_n_s32(127)), 23);
  return {vmulq_f32(a.v, vreinterpretq_f32_s32(exponent))};
}
inline Vec select_less(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {vbslq_f32(vcltq_f32(a.v, b.v), if_less.v, otherwise.v)};
}

// For a positive normal a: the integral n with a = m · 2^n, and m in [√½, √2).
inline Vec split_power_of_two(Vec a, Vec& m) {
  const int32x4_t bits = vreinterpretq_s32_f32(a.v);
  const int32x4_t n = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);  // the bits of √½
  m.v = vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(n, 23)));
  return {vcvtq_f32_s32(n)};
}

// Lane c of the result is lane index[c] - index[0] of a, which has it. The table look-up takes
// bytes: those of lane i are 4 · i … 4 · i + 3.
inline Vec pick(Vec a, const int32_t* index) {
  const int32x4_t lanes = vsubq_s32(vld1q_s32(index), vdupq_n_s32(index[0]));
  const int32x4_t bytes = vmlaq_s32(vdupq_n_s32(0x03020100), lanes, vdupq_n_s32(0x04040404));
  return {vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(a.v), vreinterpretq_u8_s32(bytes)))};
}

// Halves are folded onto each other: 4 lanes in two steps, always in this order.
inline float reduce_add(Vec a) {
  const float32x2_t two = vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float reduce_max(Vec a) { return vmaxvq_f32(a.v); }

// columns[c] = lane c of rows[0 … 3]: pairs of lanes, then pairs of pairs.
inline void transpose(const Vec (&rows)[4], Vec (&columns)[4]) {
  const float64x2_t even01 = vreinterpretq_f64_f32(vtrn1q_f32(rows[0].v, rows[1].v));
  const float64x2_t odd01 = vreinterpretq_f64_f32(vtrn2q_f32(rows[0].v, rows[1].v));
  const float64x2_t even23 = vreinterpretq_f64_f32(vtrn1q_f32(rows[2].v, rows[3].v));
  const float64x2_t odd23 = vreinterpretq_f64_f32(vtrn2q_f32(rows[2].v, rows[3].v));
  columns[0].v = vreinterpretq_f32_f64(vtrn1q_f64(even01, even23));
  columns[1].v = vreinterpretq_f32_f64(vtrn1q_f64(odd01, odd23));
  columns[2].v = vreinterpretq_f32_f64(vtrn2q_f64(even01, even23));
  columns[3].v = vreinterpretq_f32_f64(vtrn2q_f64(odd01, odd23));
}

}  // namespace vlt::VLT_KERNELS
