// attention: out [L, D] = softmax(q · kᵀ · scale) · v for one head of one sequence, any L ≥ 1.
//
// Mapping    Keys are packed transposed, values as they are, both into panels of kPanelWidth
//            columns; then for each strip of query rows: scores [rows, L] by the micro-kernel, what
//            relative positions add (relative.h, or a bias by distance), an exact softmax in place
//            (maximum, then exponentials and their sum), and the product with the values. Memory
//            is O(L · (D + strip)), and R rows of positions add O(L · R); never [A, L, L].
// Roofline   4·L²·D flops on 12·L·D bytes: arithmetic from L = 30 on; packing costs 2·L·D moves.
// Numerics   A row's sums run over keys in ascending order in fixed lanes, so they depend on L and
//            on that row only. The division by the sum comes last, on D values.
// Reference  attention in reference/reference_backend.cpp
#pragma once

#include "kernels/cpu/micro_gemm.h"
#include "kernels/cpu/relative.h"
#include "kernels/cpu/simd_math.h"

namespace vlt::VLT_KERNELS {

// One cache line more than whole panels: rows of a strip then start in different cache sets.
inline int64_t score_stride(int64_t length) { return num_panels(length) * kPanelWidth + 16; }

inline int64_t attention_scratch(int64_t length, int64_t head_size, int64_t num_relative_rows) {
  return num_panels(length) * head_size * kPanelWidth +
         num_panels(head_size) * length * kPanelWidth + kStripRows * score_stride(length) +
         relative_scratch(length, num_relative_rows);
}

// panels[p][d][j] = key[p · width + j][d], zero past L
inline void pack_keys(const float* key, int64_t stride, int64_t length, int64_t head_size,
                      float* panels) {
  constexpr int64_t kLanes = Vec::kLanes;
  Vec rows[kLanes], columns[kLanes];
  for (int64_t begin = 0; begin < num_panels(length) * kPanelWidth; begin += kLanes) {
    float* out = panels + begin / kPanelWidth * head_size * kPanelWidth + begin % kPanelWidth;
    for (int64_t d = 0; d < head_size; d += kLanes) {
      const int64_t dims = head_size - d < kLanes ? head_size - d : kLanes;
      for (int64_t i = 0; i < kLanes; ++i)
        rows[i] = begin + i < length ? load_lanes(key + (begin + i) * stride + d, dims) : zero();
      transpose(rows, columns);
      for (int64_t i = 0; i < dims; ++i, out += kPanelWidth) store(out, columns[i]);
    }
  }
}

// panels[p][i][j] = value[i][p · width + j], zero past D
inline void pack_values(const float* value, int64_t stride, int64_t length, int64_t head_size,
                        float* panels) {
  for (int64_t begin = 0; begin < head_size; begin += kPanelWidth) {
    const int64_t cols = head_size - begin < kPanelWidth ? head_size - begin : kPanelWidth;
    for (int64_t i = 0; i < length; ++i, panels += kPanelWidth) {
      const float* row = value + i * stride + begin;
      if (cols == kPanelWidth) {
        for (int j = 0; j < kPanelVectors; ++j)
          store(panels + j * Vec::kLanes, load(row + j * Vec::kLanes));
      } else {
        for (int64_t j = 0; j < cols; ++j) panels[j] = row[j];
        for (int64_t j = cols; j < kPanelWidth; ++j) panels[j] = 0.0f;
      }
    }
  }
}

// scores [padded] become exp((score - maximum) · scale); returns their sum over the first L.
inline float softmax_row(float* scores, int64_t length, float scale) {
  constexpr float kLowest = -__builtin_inff();
  const int64_t padded = (length + Vec::kLanes - 1) / Vec::kLanes * Vec::kLanes;
  for (int64_t j = length; j < padded; ++j) scores[j] = kLowest;
  Vec best = broadcast(kLowest);
  for (int64_t j = 0; j < padded; j += Vec::kLanes) best = max(best, load(scores + j));
  // e^((s - max)·scale) = 2^(s·c - max·c), rounded once. That max·c is rounded too is a factor that
  // the sum divides out; for scores beyond 2^31 it could pass 0, where the clamp holds it.
  const float c = scale * 1.44269504f;
  const Vec shift = broadcast(-c * reduce_max(best));
  Vec sum = zero();
  for (int64_t j = 0; j < padded; j += Vec::kLanes) {
    // -infinity comes out as 1e-38, which a sum of at least 1 does not see
    const Vec t = max(broadcast(-126.0f), fma(load(scores + j), broadcast(c), shift));
    const Vec e = exp2(min(zero(), t));
    store(scores + j, e);
    sum = sum + e;
  }
  return reduce_add(sum);
}

// The biases of a row's keys lie side by side.
inline void scale_and_add(float* scores, int64_t length, float scale, const float* bias) {
  for (int64_t j = 0; j < length; j += Vec::kLanes)
    store(scores + j, fma(load(scores + j), broadcast(scale), load(bias + j)));
}

inline void scale_row(float* row, int64_t cols, float factor) {
  for (int64_t j = 0; j < cols; ++j) row[j] *= factor;
}

inline void attention(const AttentionHead& h) {
  const int64_t key_stride = h.head_size * kPanelWidth;
  const int64_t value_stride = h.length * kPanelWidth;
  const int64_t stride = score_stride(h.length);
  float* keys = h.scratch;
  float* values = keys + num_panels(h.length) * key_stride;
  float* scores = values + num_panels(h.head_size) * value_stride;
  pack_keys(h.key, h.stride, h.length, h.head_size, keys);
  pack_values(h.value, h.stride, h.length, h.head_size, values);

  const RelativeTerms relative(h, scores + kStripRows * stride);

  const Strips strips(h.row_end - h.row_begin);
  for (int64_t strip = 0; strip < strips.count; ++strip) {
    const int64_t row = h.row_begin + strips.begin(strip);
    const int64_t rows = h.row_begin + strips.begin(strip + 1) - row;

    Tile product{};
    product.in = h.query + row * h.stride;
    product.in_stride = h.stride;
    product.inputs = h.head_size;
    product.panels = keys;
    product.panel_stride = key_stride;
    product.out = scores;
    product.out_stride = stride;
    run_panels(rows, num_panels(h.length), product);
    relative.add(row, rows, scores, stride);

    float sums[kStripRows];
    for (int64_t i = 0; i < rows; ++i) {
      float* of_row = scores + i * stride;
      const float* bias = h.relative.bias ? h.relative.bias - (row + i) : nullptr;
      if (bias) scale_and_add(of_row, h.length, h.scale, bias);
      sums[i] = softmax_row(of_row, h.length, bias ? 1.0f : h.scale);
    }

    Tile mix{};
    mix.in = scores;
    mix.in_stride = stride;
    mix.inputs = h.length;
    mix.out_stride = h.out_stride;
    for (int64_t panel = 0; panel < num_panels(h.head_size); ++panel) {
      const int64_t cols = h.head_size - panel * kPanelWidth;
      mix.panels = values + panel * value_stride;
      mix.out = h.out + row * h.out_stride + panel * kPanelWidth;
      if (cols >= kPanelWidth) {
        run_tile<kStripRows, kPanelVectors>(rows, mix);
      } else {
        run_partial_tile(rows, cols, mix);
      }
    }
    for (int64_t i = 0; i < rows; ++i)
      scale_row(h.out + (row + i) * h.out_stride, h.head_size, 1.0f / sums[i]);
  }
}

}  // namespace vlt::VLT_KERNELS
