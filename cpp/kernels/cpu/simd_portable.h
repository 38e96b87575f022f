// Four float32 lanes by the compiler's vector extension: SSE2, NEON or whatever the target has.
// Same interface as simd_avx512.h. Without -ffp-contract=off the bits would depend on the compiler.
#pragma once

#include <cstdint>

namespace vlt::VLT_KERNELS {

using Lanes = float __attribute__((vector_size(16)));
using IntLanes = int32_t __attribute__((vector_size(16)));

struct Vec {
  Lanes v;
  static constexpr int kLanes = 4;
  static constexpr int kRegisters = 16;  // those of SSE2, whatever the target has
  static constexpr bool kFusesMultiplyAdd = false;
};

inline Vec zero() { return {Lanes{0, 0, 0, 0}}; }
inline Vec broadcast(float x) { return {Lanes{x, x, x, x}}; }
inline Vec load(const float* p) {
  Vec a;
  __builtin_memcpy(&a.v, p, sizeof(a.v));
  return a;
}
// bfloat16 is the upper half of a float32.
inline Vec load(const uint16_t* p) {
  return {reinterpret_cast<Lanes>(IntLanes{p[0] << 16, p[1] << 16, p[2] << 16, p[3] << 16})};
}
inline Vec load(const int8_t* p) {
  return {__builtin_convertvector(IntLanes{p[0], p[1], p[2], p[3]}, Lanes)};
}
inline void store(float* p, Vec a) { __builtin_memcpy(p, &a.v, sizeof(a.v)); }

// The first n lanes (0 < n <= 4); the others read as zero and are not written.
inline Vec load_first(const float* p, int64_t n) {
  Vec a = zero();
  for (int64_t i = 0; i < n; ++i) a.v[i] = p[i];
  return a;
}
inline void store_first(float* p, Vec a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a.v[i];
}

inline Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }  // rounds twice

inline Vec select(IntLanes mask, Vec if_set, Vec otherwise) {
  return {reinterpret_cast<Lanes>((mask & reinterpret_cast<IntLanes>(if_set.v)) |
                                  (~mask & reinterpret_cast<IntLanes>(otherwise.v)))};
}
inline Vec select_less(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return select(a.v < b.v, if_less, otherwise);
}
// A NaN in b is the result, one in a is not: the value goes second, the bound first.
inline Vec max(Vec a, Vec b) { return select(a.v > b.v, a, b); }
inline Vec min(Vec a, Vec b) { return select(a.v < b.v, a, b); }
inline Vec abs(Vec a) {
  return {reinterpret_cast<Lanes>(reinterpret_cast<IntLanes>(a.v) & 0x7fffffff)};
}
// Adding 1.5 · 2^23 leaves no bits after the point; exact for |a| < 2^22.
inline Vec round(Vec a) {
  const Vec magic = broadcast(12582912.0f);
  return (a + magic) - magic;
}
// a · 2^n for integral n >= -126: n is added to the exponent bits.
inline Vec scale_by_power_of_two(Vec a, Vec n) {
  const IntLanes exponent = (__builtin_convertvector(n.v, IntLanes) + 127) << 23;
  return {a.v * reinterpret_cast<Lanes>(exponent)};
}

// For a positive normal a: the integral n with a = m · 2^n, and m in [√½, √2).
inline Vec split_power_of_two(Vec a, Vec& m) {
  const IntLanes bits = reinterpret_cast<IntLanes>(a.v);
  const IntLanes n = (bits - 0x3f3504f3) >> 23;  // less the bits of √½
  m.v = reinterpret_cast<Lanes>(bits - (n << 23));
  return {__builtin_convertvector(n, Lanes)};
}

// Lane c of the result is lane index[c] - index[0] of a, which has it.
inline Vec pick(Vec a, const int32_t* index) {
  Vec picked;
  for (int c = 0; c < 4; ++c) picked.v[c] = a.v[index[c] - index[0]];
  return picked;
}

// Halves are folded onto each other, always in this order.
inline float reduce_add(Vec a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline float reduce_max(Vec a) {
  float best = a.v[0];
  for (int i = 1; i < 4; ++i) best = a.v[i] > best ? a.v[i] : best;
  return best;
}

// columns[c] = lane c of rows[0 … 3]
inline void transpose(const Vec (&rows)[4], Vec (&columns)[4]) {
  for (int c = 0; c < 4; ++c)
    columns[c].v = Lanes{rows[0].v[c], rows[1].v[c], rows[2].v[c], rows[3].v[c]};
}

}  // namespace vlt::VLT_KERNELS
