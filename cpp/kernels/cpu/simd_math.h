// Partial vectors, and exp, log, erf-GELU, tanh and their kin: a lane's result depends on that lane
// only.
//
// Polynomials are minimax fits made for this file (weighted least squares, iterated); the error
// named beside each is that of the fit alone, before float32 rounding.
#pragma once

#include "kernels/enums.h"

namespace vlt::VLT_KERNELS {

// The first `lanes` lanes, usually all of them.
inline Vec load_lanes(const float* p, int64_t lanes) {
  return lanes == Vec::kLanes ? load(p) : load_first(p, lanes);
}

inline Vec load_lanes(const uint16_t* p, int64_t lanes) {
  if (lanes == Vec::kLanes) return load(p);
  uint16_t some[Vec::kLanes] = {};
  for (int64_t i = 0; i < lanes; ++i) some[i] = p[i];
  return load(some);
}

inline void store_lanes(float* p, Vec a, int64_t lanes) {
  if (lanes == Vec::kLanes) {
    store(p, a);
  } else {
    store_first(p, a, lanes);
  }
}

// The larger of the two, NaN where either is one (or a is infinite, which no state is).
inline Vec max_or_nan(Vec a, Vec b) { return max(a, b) + (a - a); }

// e^x for x in [-87, 88]; below, a value under 2e-38. x = n·ln 2 + r, e^r = 1 + r + r²·q(r),
// relative error 8e-9; ln 2 in two parts keeps r exact.
inline Vec exp(Vec x) {
  x = min(broadcast(88.0f), max(broadcast(-87.0f), x));
  const Vec n = round(x * broadcast(1.44269504f));
  const Vec r = fma(n, broadcast(2.12194440e-4f), fma(n, broadcast(-0.693359375f), x));
  Vec q = broadcast(0.0013941147f);
  q = fma(q, r, broadcast(0.0083631966f));
  q = fma(q, r, broadcast(0.0416663736f));
  q = fma(q, r, broadcast(0.1666657626f));
  q = fma(q, r, broadcast(0.5f));
  return scale_by_power_of_two(fma(q, r * r, r) + broadcast(1.0f), n);
}

// 2^t for t in [-126, 127], relative error 2e-9.
inline Vec exp2(Vec t) {
  const Vec n = round(t);
  const Vec f = t - n;
  Vec p = broadcast(1.5478012e-4f);
  p = fma(p, f, broadcast(1.34004317e-3f));
  p = fma(p, f, broadcast(9.61799455e-3f));
  p = fma(p, f, broadcast(5.55032722e-2f));
  p = fma(p, f, broadcast(2.40226515e-1f));
  p = fma(p, f, broadcast(6.93147207e-1f));
  return scale_by_power_of_two(fma(p, f, broadcast(1.0f)), n);
}

// The same, relative error 8e-5: for what is then rounded to bfloat16, which is 25 times coarser.
inline Vec exp2_coarse(Vec t) {
  const Vec n = round(t);
  const Vec f = t - n;
  Vec p = broadcast(5.51715885e-2f);
  p = fma(p, f, broadcast(2.42611146e-1f));
  p = fma(p, f, broadcast(6.93261003e-1f));
  return scale_by_power_of_two(fma(p, f, broadcast(9.99928073e-1f)), n);
}

// Exact GELU, x·Φ(x) = max(x, 0) - |x|·Φ(-|x|), with log2 Φ(-a) as a polynomial of degree 8 on
// [0, 9]: absolute error 7.5e-9. Past 9 the second term is under 1e-18 and stays there.
inline Vec gelu(Vec x) {
  const Vec a = abs(x);
  const Vec t = min(broadcast(9.0f), a);
  Vec p = broadcast(-1.7458959e-6f);
  p = fma(p, t, broadcast(2.5862354e-5f));
  p = fma(p, t, broadcast(-1.18915735e-4f));
  p = fma(p, t, broadcast(-3.09932165e-4f));
  p = fma(p, t, broadcast(7.31039377e-3f));
  p = fma(p, t, broadcast(-5.26915854e-2f));
  p = fma(p, t, broadcast(-4.59127627e-1f));
  p = fma(p, t, broadcast(-1.15112008f));
  p = fma(p, t, broadcast(-0.999999168f));
  return max(zero(), x) - a * exp2(p);
}

inline Vec sigmoid(Vec x) { return broadcast(1.0f) / (broadcast(1.0f) + exp(zero() - x)); }

// x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), as x · sigmoid of twice the argument.
inline Vec gelu_tanh(Vec x) {
  const Vec inner = x * fma(x * x, broadcast(0.0713548162726f), broadcast(1.59576912160573f));
  return x * sigmoid(inner);
}

// An odd polynomial near 0, where 1 - 2/(e^2x + 1) would cancel; fit error 5e-9.
inline Vec tanh(Vec x) {
  const Vec u = x * x;
  Vec p = broadcast(-5.61557146e-3f);
  p = fma(p, u, broadcast(2.05527882e-2f));
  p = fma(p, u, broadcast(-5.37098266e-2f));
  p = fma(p, u, broadcast(1.33309967e-1f));
  p = fma(p, u, broadcast(-3.33332554e-1f));
  const Vec near = fma(p * u, x, x);
  const Vec far = broadcast(1.0f) - broadcast(2.0f) / (exp(x + x) + broadcast(1.0f));
  return select_less(u, broadcast(0.39f), near, far);
}

// log(1 + max(x, 0)). 1 + x is rounded to u; what that loses is kept, scaled like u = m · 2^n, so
// that f = m - 1 + rest is x itself while x < √2 - 1, and log(1 + f) = f + f²·q(f), relative error
// 5e-9. Past 2^64 the rest is nothing either way.
inline Vec log_relu(Vec x) {
  x = max(zero(), x);
  const Vec one = broadcast(1.0f);
  const Vec u = one + x;
  const Vec rest = min(one, x) - (u - max(one, x));
  Vec m;
  const Vec n = split_power_of_two(u, m);
  const Vec f = (m - one) + scale_by_power_of_two(rest, zero() - min(broadcast(64.0f), n));
  Vec q = broadcast(-0.076221101f);
  q = fma(q, f, broadcast(0.129046917f));
  q = fma(q, f, broadcast(-0.132429764f));
  q = fma(q, f, broadcast(0.141817793f));
  q = fma(q, f, broadcast(-0.166090772f));
  q = fma(q, f, broadcast(0.200019762f));
  q = fma(q, f, broadcast(-0.250015825f));
  q = fma(q, f, broadcast(0.333333254f));
  q = fma(q, f, broadcast(-0.499999881f));
  const Vec log_m = fma(q, f * f, f);
  const Vec y = fma(n, broadcast(0.693359375f), fma(n, broadcast(-2.12194440e-4f), log_m));
  return select_less(x, broadcast(__builtin_inff()), y, x);  // infinity and NaN stay
}

inline Vec activate(Activation activation, Vec x) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return max(zero(), x);
    case Activation::kGelu:
      return gelu(x);
    case Activation::kGeluTanh:
      return gelu_tanh(x);
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kTanh:
      return tanh(x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kLogRelu:
      return log_relu(x);
  }
  return x;
}

}  // namespace vlt::VLT_KERNELS
