#include "encoder/activations.h"

#include <algorithm>
#include <array>

#include "model/model.h"

namespace vlt {
namespace {

// The operations in order: what comes before the layers, those of a layer, which repeat, and heads.
enum Op { kEmbed, kQkv, kAttention, kAttentionOutput, kUp, kDown, kHead };

constexpr uint64_t kAlignment = 64;
constexpr BatchSize kTypicalChunk{256, 16};

// Columns of the widest intermediate row of a head with several steps.
int64_t widest_row(const Head& head) {
  int64_t widest = 0;
  for (const HeadStep& step : head.steps) {
    widest = std::max(widest, step.input_size);
    if (step.kind != HeadStep::Kind::kDecoder) widest = std::max(widest, step.output_size);
  }
  return widest;
}

bool looks_at_first_tokens(const Architecture& a) {
  return std::any_of(a.heads.begin(), a.heads.end(),
                     [](const Head& head) { return head.needs_first_tokens_only(); });
}

}  // namespace

void ActivationPlan::set_shapes(const Architecture& a, const Backend& backend) {
  const auto set = [&](Buffer buffer, int64_t cols) {
    shapes_[buffer] = {cols, cols > 0 ? backend.row_stride(cols) : 0};
  };
  const Head& embedding = a.head(HeadKind::kEmbedding);
  const Head& sequence = a.head(HeadKind::kSequence);
  const Head& vocabulary = a.head(HeadKind::kVocabulary);
  const int64_t inner = int64_t{a.num_heads} * a.head_size;
  const int64_t pooled = std::max(embedding.has_dense() ? widest_row(embedding) : 0,
                                  sequence.has_dense() ? widest_row(sequence) : 0);
  const int64_t rows = std::max(widest_row(a.head(HeadKind::kToken)), widest_row(vocabulary));
  set(kStates, a.hidden_size);
  set(kQkvRows, 3 * inner);
  set(kContext, inner);
  set(kAttended, a.hidden_size);
  set(kExpanded, a.intermediate_size);
  set(kEmbedded, a.projects_embeddings ? a.embedding_size : 0);
  set(kUnfolded, int64_t{a.convolution} * a.hidden_size);
  set(kConvolved, a.convolution > 0 ? a.hidden_size : 0);
  set(kPooled0, pooled);
  set(kPooled1, pooled);
  set(kChosen, vocabulary.steps.empty() ? 0 : a.hidden_size);
  set(kRows0, rows);
  set(kRows1, rows);
  set(kScores, a.makes_sparse ? std::min<int64_t>(kDecoderBlock, a.vocab_size) : 0);
  // They take the place of `expanded`, context and states beside each other.
  first_tokens_ = looks_at_first_tokens(a) && !(a.convolution > 0 && a.num_layers == 1) &&
                  shapes_[kContext].stride + shapes_[kStates].stride <= shapes_[kExpanded].stride;
}

ActivationPlan::ActivationPlan(const Architecture& a, const Backend& backend,
                               uint64_t red_zone_bytes)
    : dtype_(backend.activation_type()) {
  set_shapes(a, backend);
  std::array<std::pair<Op, Op>, kNumBuffers> lives;
  // kDown writes the next layer's states while it still reads `attended`, so states never rest.
  lives[kStates] = {kEmbed, kHead};
  lives[kQkvRows] = {kQkv, kAttention};
  lives[kContext] = {kAttention, kAttentionOutput};
  lives[kAttended] = {kAttentionOutput, kDown};
  lives[kExpanded] = {first_tokens_ ? kAttentionOutput : kUp, kDown};
  lives[kEmbedded] = {kEmbed, kEmbed};
  lives[kUnfolded] = {kEmbed, kEmbed};
  lives[kConvolved] = {kEmbed, kDown};
  for (const Buffer buffer : {kPooled0, kPooled1, kChosen, kRows0, kRows1, kScores})
    lives[buffer] = {kHead, kHead};

  std::vector<UsageRecord> records(kNumBuffers);
  for (int i = 0; i < kNumBuffers; ++i) {
    const auto buffer = static_cast<Buffer>(i);
    const uint64_t row_bytes =
        static_cast<uint64_t>(shapes_[buffer].stride) * element_bytes(dtype_);
    const bool per_sequence = is_per_sequence(buffer);
    records[buffer] = {lives[buffer].first, lives[buffer].second,
                       row_bytes > 0 ? red_zone_bytes : 0, per_sequence ? 0 : row_bytes,
                       per_sequence ? row_bytes : 0};
  }
  plan_ = LifetimePlan(records, kAlignment, kTypicalChunk);
}

uint64_t ActivationPlan::bytes(int64_t num_tokens, int64_t num_sequences) const {
  return plan_.peak_bytes(
      {static_cast<uint64_t>(num_tokens), static_cast<uint64_t>(num_sequences)});
}

int64_t ActivationPlan::most_tokens(uint64_t bytes, int64_t num_sequences) const {
  return static_cast<int64_t>(plan_.most_tokens(bytes, static_cast<uint64_t>(num_sequences)));
}

Activations ActivationPlan::place(std::byte* block, int64_t num_tokens, int64_t num_sequences,
                                  int64_t num_chosen) const {
  std::array<uint64_t, kNumBuffers> offsets;
  plan_.place({static_cast<uint64_t>(num_tokens), static_cast<uint64_t>(num_sequences)},
              offsets.data());
  const auto view = [&](Buffer buffer) {
    Matrix matrix{block + offsets[buffer], num_tokens, shapes_[buffer].cols, shapes_[buffer].stride,
                  dtype_};
    if (is_per_sequence(buffer)) {
      matrix.rows = num_sequences;
      matrix.rows_of = RowsOf::kSequences;
    }
    return matrix;
  };
  Activations a;
  a.states = view(kStates);
  a.qkv = view(kQkvRows);
  a.context = view(kContext);
  a.tail = {a.context, a.states, view(kAttended), view(kExpanded)};
  a.embedded = view(kEmbedded);
  a.unfolded = view(kUnfolded);
  a.convolved = view(kConvolved);
  a.pooled[0] = view(kPooled0);
  a.pooled[1] = view(kPooled1);
  a.chosen = view(kChosen);
  a.chosen.rows = num_chosen;
  a.chosen.rows_of = RowsOf::kChosen;
  a.rows[0] = view(kRows0);
  a.rows[1] = view(kRows1);
  a.scores = view(kScores);
  if (first_tokens_ && num_sequences <= num_tokens) place_first_tokens(a, num_sequences);
  return a;
}

void ActivationPlan::place_first_tokens(Activations& a, int64_t num_sequences) const {
  const auto shortened = [&](Matrix matrix) {
    matrix.rows = num_sequences;
    matrix.rows_of = RowsOf::kSequences;
    return matrix;
  };
  const auto inside_expanded = [&](const Matrix& like, int64_t first_element) {
    Matrix matrix = shortened(like);
    matrix.data = static_cast<std::byte*>(a.tail.expanded.data) +
                  static_cast<uint64_t>(first_element) * element_bytes(dtype_);
    return matrix;
  };
  a.first_tokens.context = inside_expanded(a.context, 0);
  a.first_tokens.states = inside_expanded(a.states, num_sequences * a.context.stride);
  a.first_tokens.attended = shortened(a.tail.attended);
  a.first_tokens.expanded = shortened(a.tail.expanded);
  a.first_states = shortened(a.states);
}

}  // namespace vlt
