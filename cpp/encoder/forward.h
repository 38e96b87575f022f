// The encoder's forward pass over one packed chunk.
#pragma once

#include "encoder/activations.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace vlt {

// Writes the last layer's states to `out`: of all tokens [T, H], for which it may be
// activations.states, or where out is RowsOf::kSequences of each sequence's token that pooling by
// kCls takes [S, H]; what comes behind the last attention is then computed for these alone. Every
// worker of a stream calls it with the same arguments. False: stopped early on request, `out` is
// unfinished.
bool forward(const Model& model, const Sequences& sequences, const Activations& activations,
             const Matrix& out, Operations& operations);

}  // namespace vlt
