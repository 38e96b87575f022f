// Dividing requests into padded batches by dynamic programming over sorted lengths: the scheduler
// of TurboTransformers (Fang et al., PPoPP 2021, algorithm 3), for engines that pad.
#pragma once

#include <cstdint>
#include <vector>

namespace vlt {

// Measured seconds of padded batches, cost[length][batch size], linear in between.
struct PaddedCosts {
  std::vector<int32_t> lengths;      // [R] ascending
  std::vector<int32_t> batch_sizes;  // [C] ascending
  std::vector<double> seconds;       // [R, C]

  // Between the measured ones it is bilinear; below the smallest it is that of the smallest.
  // Above the largest nothing is known: the caller sees to that.
  double at(int32_t length, int32_t batch_size) const;
};

struct PaddedPlan {
  std::vector<int32_t> order;  // [N] the requests by length; of equal ones the first comes first
  std::vector<int32_t> ends;   // [batches] where each batch ends in `order`
  double seconds = 0;          // of all batches
};

// The division of the sorted requests with the least sum of costs, none larger than max_requests.
// O(N·max_requests) time, O(N) memory.
PaddedPlan plan_padded(const PaddedCosts& costs, const std::vector<int32_t>& lengths,
                       int32_t max_requests);

}  // namespace vlt
