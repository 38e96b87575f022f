#include "scheduler/padded_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace vlt {
namespace {

// Where a value lies among ascending knots: between `low` and `high`, `share` of the way.
struct Place {
  size_t low;
  size_t high;
  double share;
};

Place place(const std::vector<int32_t>& knots, int32_t value) {
  const auto above = std::lower_bound(knots.begin(), knots.end(), value);
  if (above == knots.begin()) return {0, 0, 0};
  if (above == knots.end()) return {knots.size() - 1, knots.size() - 1, 0};
  const auto high = static_cast<size_t>(above - knots.begin());
  const double width = static_cast<double>(knots[high]) - knots[high - 1];
  return {high - 1, high, (static_cast<double>(value) - knots[high - 1]) / width};
}

}  // namespace

double PaddedCosts::at(int32_t length, int32_t batch_size) const {
  const Place row = place(lengths, length), column = place(batch_sizes, batch_size);
  const auto along = [&](size_t r) {
    const double* costs = seconds.data() + r * batch_sizes.size();
    return costs[column.low] + column.share * (costs[column.high] - costs[column.low]);
  };
  const double low = along(row.low);
  return low + row.share * (along(row.high) - low);
}

// states[i] is the least cost of the i shortest requests: the last batch of them starts at some j
// and costs as much as its longest request, number i - 1, times its size.
PaddedPlan plan_padded(const PaddedCosts& costs, const std::vector<int32_t>& lengths,
                       int32_t max_requests) {
  const auto count = static_cast<int32_t>(lengths.size());
  PaddedPlan plan;
  plan.order.resize(lengths.size());
  std::iota(plan.order.begin(), plan.order.end(), 0);
  std::stable_sort(plan.order.begin(), plan.order.end(),
                   [&](int32_t a, int32_t b) { return lengths[a] < lengths[b]; });
  std::vector<double> states(lengths.size() + 1, std::numeric_limits<double>::infinity());
  std::vector<int32_t> starts(lengths.size() + 1, 0);
  states[0] = 0;
  for (int32_t i = 1; i <= count; ++i) {
    const int32_t longest = lengths[plan.order[i - 1]];
    for (int32_t j = i - 1; j >= 0 && i - j <= max_requests; --j) {
      const double total = states[j] + costs.at(longest, i - j);
      if (total < states[i]) {
        states[i] = total;
        starts[i] = j;
      }
    }
  }
  plan.seconds = states[count];
  for (int32_t end = count; end > 0; end = starts[end]) plan.ends.push_back(end);
  std::reverse(plan.ends.begin(), plan.ends.end());
  return plan;
}

}  // namespace vlt
