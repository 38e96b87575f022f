// A row of inputs as numbers 0 … 255: x ≈ least + step · q.
//
// Every row has a range of its own, so what else is in a batch does not matter. The range need not
// lie around zero: what comes out of a GELU has hardly anything below it.
// Numerics   step = (most - least) / 255, q rounded to the nearest: the error is half a step at
//            most. A row with a NaN or an infinity has a step of NaN, and so has all that comes of it.
// Reference  linear_inputs in reference/reference_backend.cpp
#pragma once

#include "kernels/cpu/simd_math.h"

namespace vlt::VLT_KERNELS {

struct RowRange {
  float least;
  float step;
  float steps_per_unit;  // 1 / step, or 0
};

// x · factor for the inputs at j, where factors is null for ones.
inline Vec scaled_input(const float* in, const float* factors, int64_t j, int64_t lanes) {
  const Vec x = load_lanes(in + j, lanes);
  return factors ? x * load_lanes(factors + j, lanes) : x;
}

// The least and the most of some numbers.
struct Extremes {
  Vec least = broadcast(__builtin_inff());
  Vec most = broadcast(-__builtin_inff());
  Vec nothing = zero();  // NaN once a number was not finite

  void take(Vec x) {
    least = min(least, x);
    most = max(most, x);
    nothing = fma(x, zero(), nothing);
  }
  void take(const Extremes& other) {
    least = min(least, other.least);
    most = max(most, other.most);
    nothing = nothing + other.nothing;
  }
};

inline RowRange range_of(const float* in, const float* factors, int64_t count) {
  Extremes all, others[3];  // four, since each has to wait for its last number
  int64_t j = 0;
  for (; j + 4 * Vec::kLanes <= count; j += 4 * Vec::kLanes) {
    all.take(scaled_input(in, factors, j, Vec::kLanes));
    for (int64_t i = 0; i < 3; ++i)
      others[i].take(scaled_input(in, factors, j + (i + 1) * Vec::kLanes, Vec::kLanes));
  }
  for (; j + Vec::kLanes <= count; j += Vec::kLanes)
    all.take(scaled_input(in, factors, j, Vec::kLanes));
  if (j < count) {
    // Lanes behind the end repeat the first input.
    alignas(64) float rest[Vec::kLanes];
    const float first = factors ? in[0] * factors[0] : in[0];
    for (int64_t i = 0; i < Vec::kLanes; ++i)
      rest[i] = j + i < count ? (factors ? in[j + i] * factors[j + i] : in[j + i]) : first;
    all.take(load(rest));
  }
  for (const Extremes& other : others) all.take(other);
  RowRange range;
  range.least = -reduce_max(zero() - all.least);
  const float width = reduce_max(all.most) - range.least;
  range.step = width / 255.0f + reduce_add(all.nothing);
  // Below 1e-30 a row is as good as constant, and 255 / width might be infinite.
  range.steps_per_unit = width > 1e-30f ? 255.0f / width : 0.0f;
  return range;
}

// 0 … 255, of what lies in the range, not yet rounded.
inline Vec steps_above_least(Vec x, const RowRange& range) {
  return (x - broadcast(range.least)) * broadcast(range.steps_per_unit);
}

inline Vec quantized(Vec x, const RowRange& range) { return round(steps_above_least(x, range)); }

}  // namespace vlt::VLT_KERNELS
