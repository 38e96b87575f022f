// From the last layer's states to what the caller asked for.
#pragma once

#include "encoder/activations.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace vlt {

// out [S, D] = the model's embedding head on states [T, H]. Needs an embedding head.
void embed(const Model& model, const Sequences& sequences, const Matrix& states,
           const Activations& activations, const Matrix& out, Operations& operations);

}  // namespace vlt
