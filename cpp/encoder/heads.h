// From the last layer's states to what the caller asked for.
#pragma once

#include "encoder/activations.h"
#include "encoder/outputs.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace vlt {

// Writes an output other than the states, for which the model must have the head. `states` are of
// all tokens, or of one a sequence where the head looks at no other.
void run_head(OutputKind kind, const Model& model, const Sequences& sequences, const Matrix& states,
              const Activations& activations, const Matrix& out, Operations& operations);

}  // namespace vlt
