// The encoder's forward pass over one packed chunk.
#pragma once

#include "encoder/activations.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace vlt {

// Writes the last layer's states [T, H] to `out`, which may be activations.states. Every worker of
// a stream calls it with the same arguments. False: stopped early on request, `out` is unfinished.
bool forward(const Model& model, const Sequences& sequences, const Activations& activations,
             const Matrix& out, Operations& operations);

}  // namespace vlt
