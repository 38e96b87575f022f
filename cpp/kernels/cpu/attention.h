// attention: out [L, D] = softmax(q · kᵀ · scale) · v for one head of one sequence, any L ≥ 1.
//
// Mapping    Keys are packed transposed, values as they are, both into panels of kPanelWidth
//            columns; then for each strip of query rows: scores [rows, L] by a product, what
//            relative positions add (relative.h, or a bias by distance), an exact softmax in place
//            (maximum, then exponentials and their sum), and the product with the values. Memory
//            is O(L · (D + strip)), and R rows of positions add O(L · R); never [A, L, L].
// Products   In float32 by the micro-kernel, here; in bfloat16 in attention_bfloat16.h, amx_attention.h.
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

// Keys, values and probabilities as they are.
class PlainProducts {
 public:
  static constexpr int64_t kRows = kStripRows;
  static constexpr int64_t kKeysAtOnce = Vec::kLanes;

  static int64_t scratch(int64_t length, int64_t head_size) {
    return num_panels(length) * head_size * kPanelWidth +
           num_panels(head_size) * length * kPanelWidth;
  }

  PlainProducts(const AttentionHead& head, float* scratch)
      : h_(head),
        key_stride_(head.head_size * kPanelWidth),
        value_stride_(head.length * kPanelWidth),
        keys_(scratch),
        values_(keys_ + num_panels(head.length) * key_stride_) {
    pack_keys(h_.key, h_.stride, h_.length, h_.head_size, keys_);
    pack_values(h_.value, h_.stride, h_.length, h_.head_size, values_);
  }

  // scores [rows, L] of the queries from `begin` on
  void score(int64_t begin, int64_t rows, float* scores, int64_t stride) const {
    Tile product{};
    product.in = h_.query + begin * h_.stride;
    product.in_stride = h_.stride;
    product.inputs = h_.head_size;
    product.panels = keys_;
    product.panel_stride = key_stride_;
    product.out = scores;
    product.out_stride = stride;
    run_panels(rows, num_panels(h_.length), product);
  }

  static Vec power_of_two(Vec t) { return exp2(t); }
  // A probability takes its score's place; `scores` is the row.
  static void keep(float* scores, int64_t j, Vec probability) { store(scores + j, probability); }

  // The queries' rows of out = probabilities · values
  void mix(int64_t begin, int64_t rows, const float* probabilities, int64_t stride) const {
    Tile product{};
    product.in = probabilities;
    product.in_stride = stride;
    product.inputs = h_.length;
    product.panels = values_;
    product.panel_stride = value_stride_;
    product.out = h_.out + begin * h_.out_stride;
    product.out_stride = h_.out_stride;
    run_columns(rows, h_.head_size, product);
  }

 private:
  const AttentionHead& h_;
  const int64_t key_stride_, value_stride_;
  float* const keys_;
  float* const values_;
};

// scores [L], with room for whole vectors, become exp((score - maximum) · scale) as Products keep
// them, and zeros up to their kKeysAtOnce; returns their sum.
template <typename Products>
inline float softmax_row(float* scores, int64_t length, float scale) {
  constexpr float kLowest = -__builtin_inff();
  constexpr int64_t kStep = Products::kKeysAtOnce;
  const int64_t padded = (length + kStep - 1) / kStep * kStep;
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
    const Vec e = Products::power_of_two(min(zero(), t));
    Products::keep(scores, j, e);
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

template <typename Products>
inline int64_t attention_scratch(int64_t length, int64_t head_size, int64_t num_relative_rows) {
  return Products::scratch(length, head_size) + Products::kRows * score_stride(length) +
         relative_scratch(length, num_relative_rows);
}

template <typename Products>
inline void attention(const AttentionHead& h) {
  const int64_t stride = score_stride(h.length);
  float* scores = h.scratch + Products::scratch(h.length, h.head_size);
  const Products products(h, h.scratch);
  const RelativeTerms relative(h, scores + Products::kRows * stride);

  const Strips strips(h.row_end - h.row_begin, Products::kRows);
  for (int64_t strip = 0; strip < strips.count; ++strip) {
    const int64_t row = h.row_begin + strips.begin(strip);
    const int64_t rows = h.row_begin + strips.begin(strip + 1) - row;
    products.score(row, rows, scores, stride);
    relative.add(row, rows, scores, stride);

    float sums[Products::kRows];
    for (int64_t i = 0; i < rows; ++i) {
      float* of_row = scores + i * stride;
      const float* bias = h.relative.bias ? h.relative.bias - (row + i) : nullptr;
      if (bias) scale_and_add(of_row, h.length, h.scale, bias);
      sums[i] = softmax_row<Products>(of_row, h.length, bias ? 1.0f : h.scale);
    }
    products.mix(row, rows, scores, stride);
    for (int64_t i = 0; i < rows; ++i)
      scale_row(h.out + (row + i) * h.out_stride, h.head_size, 1.0f / sums[i]);
  }
}

template <typename Products>
constexpr AttentionKernel kAttention = {attention<Products>, attention_scratch<Products>,
                                        Products::kRows};

}  // namespace vlt::VLT_KERNELS
