// The metadata key `embedding_head`: the steps from the last layer's states to a vector.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "model/architecture.h"
#include "model/weights_file.h"

namespace vlt {

// Parses the steps, written as in "pool:mean dense:0:tanh normalize", and follows the size of the
// vector through them: a dense step's output is as long as its weight tensor has rows.
std::vector<HeadStep> parse_embedding_head(const WeightsFile& file, std::string_view text,
                                           int64_t hidden_size);

}  // namespace vlt
