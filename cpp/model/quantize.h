// Weights of linear layers as 8-bit integers, one scale an output.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace vlt {

// What Int8Weights points to.
struct QuantizedLinear {
  std::vector<int8_t> values;        // [N, K]
  std::vector<float> scales;         // [N]
  std::vector<float> input_factors;  // [K], or empty for ones

  Int8Weights view() const;
  // [N, K]; what is too large for a float32 is infinite.
  std::vector<float> to_float32() const;
};

// For the inputs of weight [N, K], given about how large each usually is (sizes [K]). Inputs of a norm
// are as large as its weight and bias say, and some are far larger than others; in 8 bits, with one
// step for all of them, these would leave the others little. So a factor takes half of the
// difference, in powers, from the inputs to the weights (Xiao et al. 2022, SmoothQuant,
// arXiv:2211.10438, eq. 4, with sizes from the model itself in place of measured ones).
std::vector<float> smoothing_factors(const float* weight, int64_t outputs, int64_t inputs,
                                     const std::vector<float>& sizes);

QuantizedLinear quantize_linear(const std::vector<float>& weight, int64_t outputs, int64_t inputs,
                                std::vector<float> input_factors);

}  // namespace vlt
