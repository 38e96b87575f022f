// From the last layer's states to what the caller asked for.
#pragma once

#include "encoder/activations.h"
#include "encoder/forward.h"
#include "encoder/outputs.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace vlt {

// Writes an output other than the states, for which the model must have the head. `states` are of
// all tokens, or of one a sequence where the head looks at no other.
void run_head(OutputKind kind, const Model& model, const Sequences& sequences, const Matrix& states,
              const Activations& activations, const Matrix& out, Operations& operations);

// The forward pass and every output that is wanted; result_of(kind): its rows. Ends early, outputs
// unfinished, where a stop is requested. Allocates nothing.
template <typename ResultOf>
void run_model(const Model& model, const Sequences& sequences, const Activations& x,
               const Outputs& outputs, const ResultOf& result_of, Operations& operations) {
  Matrix states = x.states;
  if (outputs.wants(OutputKind::kHidden)) states = result_of(OutputKind::kHidden);
  if (x.first_states.data && outputs.needs_first_tokens_only(model.architecture()))
    states = x.first_states;
  if (!forward(model, sequences, x, states, operations)) return;
  for (const OutputKind kind : kOutputKinds)
    if (kind != OutputKind::kHidden && outputs.wants(kind))
      run_head(kind, model, sequences, states, x, result_of(kind), operations);
}

}  // namespace vlt
