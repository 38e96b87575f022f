// The operations that read each row once: norm, embedding + norm, pooling, L2 normalisation.
//
// Mapping    One row at a time, vectors along the columns; a row of 4 KiB stays in L1 throughout.
// Roofline   Bound by memory: 8·H bytes a token for the norm, 16·H for embedding + norm.
// Numerics   Mean first, then the centred variance. Lanes add up in a fixed order; the last vector
//            is filled with zeros, so a row's bits depend on the row and its width only.
// Reference  layernorm, pool and normalize in reference/reference_backend.cpp
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd_math.h"

namespace vlt::VLT_KERNELS {

// Calls body(column, lanes) over [0, cols); lanes < kLanes at most once, at the end.
template <typename Body>
inline void for_columns(int64_t cols, const Body& body) {
  int64_t j = 0;
  for (; j + Vec::kLanes <= cols; j += Vec::kLanes) body(j, static_cast<int64_t>(Vec::kLanes));
  if (j < cols) body(j, cols - j);
}

inline float inverse_square_root(float x) { return 1.0f / __builtin_sqrtf(x); }

// input(column, lanes): that part of the row, zero past it. It is read once, before out is written
// there; what follows reads out.
template <typename Input>
inline void layernorm_row(const Input& input, const float* weight, const float* bias, float epsilon,
                          int64_t cols, float* out) {
  Vec sum = zero();
  for_columns(cols, [&](int64_t j, int64_t lanes) {
    const Vec x = input(j, lanes);
    store_lanes(out + j, x, lanes);
    sum = sum + x;
  });
  const float mean = reduce_add(sum) / static_cast<float>(cols);

  Vec squares = zero();
  for_columns(cols, [&](int64_t j, int64_t lanes) {
    Vec centred = load_lanes(out + j, lanes) - broadcast(mean);
    if (lanes < Vec::kLanes) {
      alignas(64) float valid[Vec::kLanes] = {};  // the lanes past the row hold -mean
      store_first(valid, centred, lanes);
      centred = load(valid);
    }
    squares = fma(centred, centred, squares);
  });
  const float variance = reduce_add(squares) / static_cast<float>(cols);
  const Vec scale = broadcast(inverse_square_root(variance + epsilon));

  for_columns(cols, [&](int64_t j, int64_t lanes) {
    const Vec centred = load_lanes(out + j, lanes) - broadcast(mean);
    store_lanes(out + j,
                fma(centred * scale, load_lanes(weight + j, lanes), load_lanes(bias + j, lanes)),
                lanes);
  });
}

inline void layernorm(const NormBlock& n) {
  for (int64_t i = 0; i < n.rows; ++i) {
    const float* in = n.in + i * n.in_stride;
    const float* residual = n.residual ? n.residual + i * n.residual_stride : nullptr;
    const auto input = [&](int64_t j, int64_t lanes) {
      const Vec x = load_lanes(in + j, lanes);
      return residual ? x + load_lanes(residual + j, lanes) : x;
    };
    layernorm_row(input, n.weight, n.bias, n.epsilon, n.cols, n.out + i * n.out_stride);
  }
}

template <typename T>
inline void embed_layernorm_of(const EmbeddingRow& e) {
  const auto part = [](const void* row, int64_t j, int64_t lanes) {
    return load_lanes(static_cast<const T*>(row) + j, lanes);
  };
  const auto input = [&](int64_t j, int64_t lanes) {
    Vec x = part(e.word, j, lanes);
    if (e.token_type) x = x + part(e.token_type, j, lanes);
    if (e.position) x = x + part(e.position, j, lanes);
    return x;
  };
  layernorm_row(input, e.weight, e.bias, e.epsilon, e.cols, e.out);
}

inline void embed_layernorm(const EmbeddingRow& e) {
  if (e.bfloat16)
    embed_layernorm_of<uint16_t>(e);
  else
    embed_layernorm_of<float>(e);
}

inline void pool(const PoolSequence& p) {
  const int64_t count = p.length - p.begin;
  if (count <= 0) {
    for_columns(p.cols, [&](int64_t j, int64_t lanes) { store_lanes(p.out + j, zero(), lanes); });
    return;
  }
  const float tokens = static_cast<float>(count);
  float divisor = 1.0f;
  if (p.mode == PoolingMode::kMean) divisor = tokens;
  if (p.mode == PoolingMode::kMeanSqrtLen) divisor = __builtin_sqrtf(tokens);
  // weights p.begin + 1 … length
  if (p.mode == PoolingMode::kWeightedMean)
    divisor = 0.5f * tokens * static_cast<float>(p.begin + 1 + p.length);

  for_columns(p.cols, [&](int64_t j, int64_t lanes) {
    const float* column = p.states + j;
    const auto state = [&](int64_t i) { return load_lanes(column + i * p.stride, lanes); };
    Vec x;
    switch (p.mode) {
      case PoolingMode::kCls:
        x = state(p.begin);
        break;
      case PoolingMode::kLastToken:
        x = state(p.length - 1);
        break;
      case PoolingMode::kMax:
        x = state(p.begin);
        for (int64_t i = p.begin + 1; i < p.length; ++i) x = max_or_nan(x, state(i));
        break;
      default:
        x = zero();
        for (int64_t i = p.begin; i < p.length; ++i) {
          const bool weighted = p.mode == PoolingMode::kWeightedMean;
          x = weighted ? fma(broadcast(static_cast<float>(i + 1)), state(i), x) : x + state(i);
        }
        x = x / broadcast(divisor);
    }
    store_lanes(p.out + j, x, lanes);
  });
}

inline void normalize(float* row, int64_t cols) {
  Vec squares = zero();
  for_columns(cols, [&](int64_t j, int64_t lanes) {
    const Vec x = load_lanes(row + j, lanes);
    squares = fma(x, x, squares);
  });
  const float norm = __builtin_sqrtf(reduce_add(squares));
  const Vec divisor = broadcast(norm < 1e-12f ? 1e-12f : norm);
  for_columns(cols, [&](int64_t j, int64_t lanes) {
    store_lanes(row + j, load_lanes(row + j, lanes) / divisor, lanes);
  });
}

}  // namespace vlt::VLT_KERNELS
