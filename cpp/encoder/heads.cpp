#include "encoder/heads.h"

namespace vlt {
namespace {

Matrix columns_of(Matrix matrix, int64_t first, int64_t count) {
  matrix.data = static_cast<std::byte*>(matrix.data) + first * element_bytes(matrix.dtype);
  matrix.cols = count;
  return matrix;
}

// The steps of a head one after the other. `rows`: two buffers in turns; the last step that makes a
// new row writes to `out`.
void run_steps(const Model& model, HeadKind kind, size_t num_steps, const Sequences& sequences,
               Matrix current, const Matrix (&rows)[2], const Matrix& out, Operations& ops) {
  const std::vector<HeadStep>& steps = model.architecture().head(kind).steps;
  const HeadWeights& weights = model.head(kind);
  size_t last = 0;
  for (size_t i = 0; i < num_steps; ++i)
    if (steps[i].kind != HeadStep::Kind::kNormalize) last = i;

  int turn = 0;
  for (size_t i = 0; i < num_steps; ++i) {
    const HeadStep& step = steps[i];
    if (step.kind == HeadStep::Kind::kNormalize) {
      ops.normalize(current);
      continue;
    }
    Matrix next = i == last ? out : rows[turn];
    next.cols = step.output_size;
    turn = 1 - turn;
    const auto index = static_cast<size_t>(step.index);
    if (step.kind == HeadStep::Kind::kPool)
      ops.pool(sequences, current, step.modes, next);
    else if (step.kind == HeadStep::Kind::kNorm)
      ops.layernorm(current, nullptr, weights.norms[index], next);
    else
      ops.linear(current, weights.dense[index], step.activation, next);
    current = next;
  }
}

// The states as the decoder wants them: everything but the last step, for the rows of `states`.
Matrix transform(const Model& model, const Sequences& sequences, const Matrix& states,
                 const Activations& x, Operations& ops) {
  const std::vector<HeadStep>& steps = model.architecture().head(HeadKind::kVocabulary).steps;
  if (steps.size() == 1) return states;
  Matrix rows[2] = {x.rows[0], x.rows[1]};
  for (Matrix& matrix : rows) {
    matrix.rows = states.rows;
    matrix.rows_of = states.rows_of;
  }
  // An even number of rows is made in turns from the first on, so the last lies in the second.
  Matrix out = rows[steps.size() % 2];
  out.cols = steps.back().input_size;
  run_steps(model, HeadKind::kVocabulary, steps.size() - 1, sequences, states, rows, out, ops);
  return out;
}

void score_chosen(const Model& model, const Sequences& sequences, const Matrix& states,
                  const Activations& x, const Matrix& out, Operations& ops) {
  ops.gather(sequences, states, x.chosen);
  const Matrix rows = transform(model, sequences, x.chosen, x, ops);
  int64_t first = 0;
  for (const LinearWeights& block : model.head(HeadKind::kVocabulary).decoder) {
    ops.linear(rows, block, Activation::kIdentity, columns_of(out, first, block.outputs));
    first += block.outputs;
  }
}

// log(1 + max(x, 0)) rises with x, but rounding to 16 bits comes before the largest is taken: as in
// the original.
void score_words(const Model& model, const Sequences& sequences, const Matrix& states,
                 const Activations& x, const Matrix& out, Operations& ops) {
  const Matrix rows = transform(model, sequences, states, x, ops);
  Sequences whole = sequences;
  whole.pooling_starts = nullptr;
  int64_t first = 0;
  for (const LinearWeights& block : model.head(HeadKind::kVocabulary).decoder) {
    const Matrix scores = columns_of(x.scores, 0, block.outputs);
    ops.linear(rows, block, Activation::kLogRelu, scores);
    ops.pool(whole, scores, {PoolingMode::kMax}, columns_of(out, first, block.outputs));
    first += block.outputs;
  }
}

}  // namespace

void run_head(OutputKind kind, const Model& model, const Sequences& sequences, const Matrix& states,
              const Activations& x, const Matrix& out, Operations& ops) {
  if (kind == OutputKind::kVocabulary) return score_chosen(model, sequences, states, x, out, ops);
  if (kind == OutputKind::kSparse) return score_words(model, sequences, states, x, out, ops);
  const HeadKind head = *head_of(kind);
  const bool of_tokens = kind == OutputKind::kTokenLogits;
  run_steps(model, head, model.architecture().head(head).steps.size(), sequences, states,
            of_tokens ? x.rows : x.pooled, out, ops);
}

}  // namespace vlt
