#include "encoder/heads.h"

namespace vlt {

void embed(const Model& model, const Sequences& sequences, const Matrix& states,
           const Activations& x, const Matrix& out, Operations& ops) {
  const std::vector<HeadStep>& steps = model.architecture().embedding_head;
  // The last step that makes a new vector writes to `out`; those before it take turns.
  size_t last = 0;
  for (size_t i = 0; i < steps.size(); ++i)
    if (steps[i].kind != HeadStep::Kind::kNormalize) last = i;

  Matrix current;
  int turn = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    const HeadStep& step = steps[i];
    if (step.kind == HeadStep::Kind::kNormalize) {
      ops.normalize(current);
      continue;
    }
    Matrix next = i == last ? out : x.pooled[turn];
    next.cols = step.output_size;
    turn = 1 - turn;
    if (step.kind == HeadStep::Kind::kPool) {
      ops.pool(sequences, states, step.modes, next);
    } else {
      ops.linear(current, model.dense()[static_cast<size_t>(step.dense_index)], step.activation,
                 next);
    }
    current = next;
  }
}

}  // namespace vlt
