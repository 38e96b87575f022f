#include "model/quantize.h"

#include <algorithm>
#include <cmath>

namespace vlt {
namespace {

// What is much smaller than the largest counts as this part of it, so that no factor is extreme.
constexpr float kSmallest = 1e-3f;

void raise_smallest(std::vector<float>& values) {
  const float least = kSmallest * *std::max_element(values.begin(), values.end());
  for (float& value : values) value = std::max(value, least);
}

}  // namespace

Int8Weights QuantizedLinear::view() const {
  Int8Weights weights;
  weights.values = values.data();
  weights.scales = scales.data();
  weights.input_factors = input_factors.empty() ? nullptr : input_factors.data();
  weights.outputs = static_cast<int64_t>(scales.size());
  weights.inputs = scales.empty() ? 0 : static_cast<int64_t>(values.size() / scales.size());
  return weights;
}

std::vector<float> QuantizedLinear::to_float32() const {
  std::vector<float> weight;
  weight.reserve(values.size());
  const auto inputs = static_cast<size_t>(view().inputs);
  for (size_t n = 0; n < scales.size(); ++n)
    for (size_t k = 0; k < inputs; ++k) {
      const float value = static_cast<float>(values[n * inputs + k]) * scales[n];
      weight.push_back(input_factors.empty() ? value : value * input_factors[k]);
    }
  return weight;
}

std::vector<float> smoothing_factors(const float* weight, int64_t outputs, int64_t inputs,
                                     const std::vector<float>& sizes) {
  std::vector<double> squares(static_cast<size_t>(inputs));
  for (int64_t n = 0; n < outputs; ++n)
    for (int64_t k = 0; k < inputs; ++k) {
      const double w = weight[n * inputs + k];
      squares[static_cast<size_t>(k)] += w * w;
    }
  std::vector<float> of_weights;
  of_weights.reserve(squares.size());
  for (const double sum : squares)
    of_weights.push_back(static_cast<float>(std::sqrt(sum / static_cast<double>(outputs))));
  std::vector<float> of_inputs = sizes;
  raise_smallest(of_weights);
  raise_smallest(of_inputs);
  std::vector<float> factors;
  for (size_t k = 0; k < of_inputs.size(); ++k) {
    const float factor = std::sqrt(of_weights[k] / of_inputs[k]);
    if (!std::isnormal(factor)) return {};  // weights or inputs are all zero
    factors.push_back(factor);
  }
  return factors;
}

QuantizedLinear quantize_linear(const std::vector<float>& weight, int64_t outputs, int64_t inputs,
                                std::vector<float> input_factors) {
  QuantizedLinear quantized;
  std::vector<float> row(static_cast<size_t>(inputs));
  for (int64_t n = 0; n < outputs; ++n) {
    float largest = 0;
    for (size_t k = 0; k < row.size(); ++k) {
      row[k] = weight[static_cast<size_t>(n * inputs) + k];
      if (!input_factors.empty()) row[k] /= input_factors[k];
      largest = std::max(largest, std::fabs(row[k]));
    }
    const float scale = largest / 127;
    quantized.scales.push_back(scale);
    for (const float value : row)
      quantized.values.push_back(
          static_cast<int8_t>(scale > 0 ? std::nearbyint(value / scale) : 0.0f));
  }
  quantized.input_factors = std::move(input_factors);
  return quantized;
}

}  // namespace vlt
