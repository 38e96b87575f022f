// What a packed batch costs: seconds as a function of the lengths in it, fitted to measurements.
#pragma once

#include <cstdint>
#include <vector>

namespace vlt {

// A packed batch of lengths L takes base + per_token·ΣL + per_square·ΣL² seconds: the start of a
// run, the products and norms, and attention.
struct CostModel {
  double base = 0;
  double per_token = 0;
  double per_square = 0;

  // What these lengths add to a batch.
  double added_seconds(double tokens, double squares) const {
    return per_token * tokens + per_square * squares;
  }
};

struct CostPoint {
  double tokens = 0;   // ΣL
  double squares = 0;  // ΣL²
  double seconds = 0;  // above 0
};

// The model of least relative squared error among those without a negative coefficient. What the
// points do not tell apart (attention, if all are short) is left at zero. `points` is not empty.
CostModel fit_cost_model(const std::vector<CostPoint>& points);

}  // namespace vlt
