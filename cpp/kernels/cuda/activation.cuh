// Activations on the device, in float32.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace vlt::cuda {

// gelu(x) = x Φ(x) = max(x, 0) - |x| Φ(-|x|), and log2 Φ(-a) is close to a polynomial: one
// exponential in all. Through whole models its error equals PyTorch float32's.
__device__ inline float gelu(float x) {
  const float a = fminf(fabsf(x), 9.0f);
  float p = 3.30968e-5f;
  p = fmaf(p, a, -0.00076925494f);
  p = fmaf(p, a, 0.00808083286f);
  p = fmaf(p, a, -0.05341228490f);
  p = fmaf(p, a, -0.45877083783f);
  p = fmaf(p, a, -1.15120174662f);
  p = fmaf(p, a, -0.99999305633f);
  // not `a`: a NaN must stay one, which fmin would swallow, and so must an infinity
  return fmaxf(x, 0.0f) - fabsf(x) * exp2_fast(p) + (x - x);
}

// The same for results that are rounded to 16 bits: a third fewer instructions, of which the product
// before it must hide as many as there are (and pay for them in watts). The polynomial is fitted to
// the error of the result in units of float16, at most 0.27 of the half unit that rounding itself may
// lose; rounded, the root mean square of the error grows by 1 % at most. The last coefficient is
// negative: the polynomial falls for ever, and nothing need be clamped.
__device__ inline float gelu_for_16_bits(float x) {
  const float a = fabsf(x);
  float p = -3.29602713e-4f;
  p = fmaf(p, a, 0.00591256609f);
  p = fmaf(p, a, -0.0485125631f);
  p = fmaf(p, a, -0.463761747f);
  p = fmaf(p, a, -1.14934111f);
  p = fmaf(p, a, -1.00011873f);
  return fmaf(-a, exp2_fast(p), fmaxf(x, 0.0f));
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

// Out: what the result will be rounded to.
template <typename Out>
__device__ inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0 : x;  // a NaN stays
    case Activation::kGelu:
      return sizeof(Out) == 2 ? gelu_for_16_bits(x) : gelu(x);
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kTanh:
      return tanhf(x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kLogRelu:
      return x < 0 ? 0 : log1pf(x);
  }
  return x;
}

}  // namespace vlt::cuda
