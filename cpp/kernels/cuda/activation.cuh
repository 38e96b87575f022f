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

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

__device__ inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0 : x;  // a NaN stays
    case Activation::kGelu:
      return gelu(x);
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
