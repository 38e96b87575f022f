// The metadata keys of the heads: the steps from the last layer's states to a result.
#pragma once

#include <string_view>

#include "model/architecture.h"
#include "model/weights_file.h"

namespace vlt {

// Parses the steps, written as in "pool:mean dense:0:tanh normalize", and follows the size of the
// row through them: a dense step's output is as long as its weight tensor has rows.
Head parse_head(const WeightsFile& file, HeadKind kind, std::string_view text,
                const Architecture& architecture);

}  // namespace vlt
