// A batch for attention, its bound, and the promise that a sequence's bits do not depend on the others.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "harness.h"

namespace vlt::tests {

inline double squared_norm(const float* x, int64_t count) {
  double squares = 0;
  for (int64_t d = 0; d < count; ++d) squares += static_cast<double>(x[d]) * x[d];
  return squares;
}

struct AttentionCase {
  std::vector<int32_t> starts;
  int heads;
  int64_t head_size;
  int64_t inner;
  int64_t tokens;
  GuardedMatrix qkv;
  bool rounds_probabilities;
  Sequences sequences;

  AttentionCase(const std::vector<int32_t>& lengths, int num_heads, int64_t size, uint32_t seed,
                const HostBackend& backend)
      : starts(1, 100),  // starts need not begin at zero
        heads(num_heads),
        head_size(size),
        inner(num_heads * size),
        tokens(total(lengths)),
        qkv(tokens, 3 * inner, backend.row_stride(3 * inner),
            as_stored(random_floats(tokens * 3 * inner, seed, 1.5f), backend)),
        rounds_probabilities(backend.compute_type() != DType::kFloat32) {
    for (const int32_t length : lengths) starts.push_back(starts.back() + length);
    sequences.sequence_starts = starts.data();
    sequences.num_sequences = static_cast<int32_t>(lengths.size());
  }

  static int64_t total(const std::vector<int32_t>& lengths) {
    int64_t sum = 0;
    for (const int32_t length : lengths) sum += length;
    return sum;
  }
  int64_t longest() const {
    int32_t best = 0;
    for (int32_t s = 0; s < sequences.num_sequences; ++s)
      best = std::max(best, sequences.length(s));
    return best;
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(head_size)); }

  void run(const HostBackend& backend, int workers, GuardedMatrix& out,
           const RelativeTensors* tensors = nullptr) {
    const std::unique_ptr<WeightPool> pool = backend.create_weight_pool();
    RelativeWeights relative;
    if (tensors) relative = backend.prepare_relative(*tensors, *pool);
    const auto body = [&](Operations& operations) {
      operations.attention(sequences, qkv.view(), heads, scale(), tensors ? &relative : nullptr,
                           out.view());
    };
    run_together(backend, workers, longest(), head_size, body, tensors ? tensors->num_rows : 0);
  }

  // The largest |x|² of queries and keys.
  double largest_square() {
    const Matrix m = qkv.view();
    double largest = 0;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t column = 0; column < 2 * inner; column += head_size)
        largest = std::max(largest, squared_norm(m.row(t) + column, head_size));
    return largest;
  }

  // Scores err by √D roundings of |q|·|k|; probabilities by that, relatively; the mix by √L more.
  // Beside weights of fewer bits, probabilities may be rounded to bfloat16, from exponentials that
  // are a little off.
  double bound(double largest_value, double largest_score) const {
    const double roots = 4 + std::sqrt(static_cast<double>(head_size + longest()));
    const double rounding = rounds_probabilities ? 0x1p-9 + 2e-4 : 0;
    return (kEps * roots * (2 + largest_score) + rounding) * largest_value;
  }
};

// Each sequence alone, on one worker, gives the bits it has in the batch on several.
inline bool alone_equals_batch(const HostBackend& backend, const std::vector<int32_t>& lengths,
                               const RelativeTensors* tensors = nullptr) {
  AttentionCase all(lengths, 3, 24, 9, backend);
  GuardedMatrix together(all.tokens, all.inner, all.inner);
  all.run(backend, 3, together, tensors);
  for (int32_t s = 0; s < all.sequences.num_sequences; ++s) {
    AttentionCase one({lengths[static_cast<size_t>(s)]}, 3, 24, 9, backend);
    for (int64_t i = 0; i < one.tokens; ++i)
      std::memcpy(one.qkv.view().row(i), all.qkv.view().row(all.sequences.first_row(s) + i),
                  sizeof(float) * static_cast<size_t>(3 * one.inner));
    GuardedMatrix out(one.tokens, one.inner, one.inner);
    one.run(backend, 1, out, tensors);
    if (one.tokens > 0 &&
        std::memcmp(out.view().data, together.view().row(all.sequences.first_row(s)),
                    sizeof(float) * static_cast<size_t>(one.tokens * one.inner)) != 0)
      return false;
  }
  return true;
}

}  // namespace vlt::tests
