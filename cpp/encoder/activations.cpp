#include "encoder/activations.h"

#include <algorithm>
#include <array>

namespace vlt {
namespace {

// The operations of a layer, in order; the layers repeat them, and the head follows.
enum Op { kQkv, kAttention, kAttentionOutput, kUp, kDown, kHead };
enum Buffer { kStates, kQkvRows, kContext, kAttended, kExpanded, kPooled0, kPooled1, kNumBuffers };

constexpr uint64_t kAlignment = 64;
constexpr BatchSize kTypicalChunk{256, 16};

}  // namespace

ActivationPlan::ActivationPlan(const Architecture& a, const Backend& backend,
                               uint64_t red_zone_bytes)
    : dtype_(backend.compute_type()) {
  const auto shape = [&](int64_t cols) { return Shape{cols, backend.row_stride(cols)}; };
  const int64_t inner = int64_t{a.num_heads} * a.head_size;
  states_ = shape(a.hidden_size);
  qkv_ = shape(3 * inner);
  context_ = shape(inner);
  expanded_ = shape(a.intermediate_size);
  int64_t widest = 0;
  bool has_dense = false;
  for (const HeadStep& step : a.embedding_head) {
    widest = std::max({widest, step.input_size, step.output_size});
    has_dense |= step.kind == HeadStep::Kind::kDense;
  }
  pooled_ = has_dense ? shape(widest) : Shape{};

  const auto record = [&](int first_op, int last_op, const Shape& s, bool per_sequence) {
    const uint64_t row_bytes = static_cast<uint64_t>(s.stride) * element_bytes(dtype_);
    return UsageRecord{first_op, last_op, red_zone_bytes, per_sequence ? 0 : row_bytes,
                       per_sequence ? row_bytes : 0};
  };
  std::vector<UsageRecord> records(kNumBuffers);
  // kDown writes the next layer's states while it still reads `attended`, so states never rest.
  records[kStates] = record(kQkv, kHead, states_, false);
  records[kQkvRows] = record(kQkv, kAttention, qkv_, false);
  records[kContext] = record(kAttention, kAttentionOutput, context_, false);
  records[kAttended] = record(kAttentionOutput, kDown, states_, false);
  records[kExpanded] = record(kUp, kDown, expanded_, false);
  records[kPooled0] = record(kHead, kHead, pooled_, true);
  records[kPooled1] = record(kHead, kHead, pooled_, true);
  plan_ = LifetimePlan(records, kAlignment, kTypicalChunk);
}

uint64_t ActivationPlan::bytes(int64_t num_tokens, int64_t num_sequences) const {
  return plan_.peak_bytes(
      {static_cast<uint64_t>(num_tokens), static_cast<uint64_t>(num_sequences)});
}

int64_t ActivationPlan::most_tokens(uint64_t bytes, int64_t num_sequences) const {
  return static_cast<int64_t>(plan_.most_tokens(bytes, static_cast<uint64_t>(num_sequences)));
}

Activations ActivationPlan::place(std::byte* block, int64_t num_tokens,
                                  int64_t num_sequences) const {
  std::array<uint64_t, kNumBuffers> offsets;
  plan_.place({static_cast<uint64_t>(num_tokens), static_cast<uint64_t>(num_sequences)},
              offsets.data());
  const auto view = [&](Buffer buffer, const Shape& shape, int64_t rows) {
    return Matrix{block + offsets[buffer], rows, shape.cols, shape.stride, dtype_};
  };
  Activations a;
  a.states = view(kStates, states_, num_tokens);
  a.qkv = view(kQkvRows, qkv_, num_tokens);
  a.context = view(kContext, context_, num_tokens);
  a.attended = view(kAttended, states_, num_tokens);
  a.expanded = view(kExpanded, expanded_, num_tokens);
  a.pooled[0] = view(kPooled0, pooled_, num_sequences);
  a.pooled[1] = view(kPooled1, pooled_, num_sequences);
  for (Matrix& pooled : a.pooled) pooled.rows_of = RowsOf::kSequences;
  return a;
}

}  // namespace vlt
