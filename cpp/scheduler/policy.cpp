#include "scheduler/policy.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vlt {
namespace {

// A batch of 30 times its fixed cost loses 3 % to it. By simulation (tools/simulate_serving.py, for
// other costs tests/test_serving_simulation.py), less loses where much comes, more where little.
constexpr double kBatchOverBase = 30;

// Whoever comes while a queue is worked off waits for its fixed costs too: at a load of 0.94, 16
// times as many as are there. By simulation, 2 … 8 loses throughput at loads from 0.97 on.
constexpr double kServedPerWaiting = 16;

// In heavy traffic the tail falls off at γ = 2 (1 - load) E[S] / E[S²]. 0.3 is right at a load of
// 0.85; by simulation, half and twice of it are nearly as good at every load.
constexpr double kTailRate = 0.3;

// Standard deviation of the number of requests at the server over its mean, which is counted beyond
// the two that are always there when a batch begins. By simulation 0.25 … 4 where arrivals are random
// and the load 0.5 … 0.97, and up to 0.14 with 64 or 256 clients that always ask again. In between,
// head starts grow from nothing to all.
constexpr double kAlwaysThere = 2;
constexpr double kVariationOfClosed = 0.15;
constexpr double kVariationOfRandom = 0.4;

double boost(double seconds, const Moments& known) {
  // Before anything is known, all requests are taken to be like this one.
  const double typical = known.mean > 0 ? known.mean_square / known.mean : seconds;
  if (typical <= 0) return 0;
  const double rate = kTailRate / typical;
  return -std::log(-std::expm1(-rate * seconds)) / rate;  // infinite if it takes no time
}

// 0 … 1: how random arrivals look.
double randomness(const Moments& crowd) {
  constexpr double kLow = kVariationOfClosed * kVariationOfClosed;
  constexpr double kHigh = kVariationOfRandom * kVariationOfRandom;
  const bool is_known = static_cast<double>(crowd.count) * crowd.memory >= 1;
  const double mean = crowd.mean - kAlwaysThere;
  if (!is_known || mean <= 0) return 1;
  const double variance = crowd.mean_square - crowd.mean * crowd.mean;
  return std::clamp((variance / (mean * mean) - kLow) / (kHigh - kLow), 0.0, 1.0);
}

}  // namespace

void Moments::observe(double value) {
  ++count;
  const double weight = std::max(memory, 1 / static_cast<double>(count));
  mean += weight * (value - mean);
  mean_square += weight * (value * value - mean_square);
}

double rank(const Request& request, const CostModel& cost, const Limits& limits,
            const Traffic& traffic) {
  double head_start = 0;
  if (limits.policy == Policy::kLatency) {
    const auto length = static_cast<double>(request.length);
    const double seconds = cost.added_seconds(length, length * length);
    // A boost without end, of a request that takes no time, times 0 would be no number.
    head_start =
        std::min(boost(seconds, traffic.seconds), limits.max_wait) * randomness(traffic.crowd);
    // Whoever has a time limit is due when it would just be met, all others after max_wait.
    if (request.time_left > 0)
      head_start =
          std::max(head_start, limits.max_wait - (request.time_left - cost.base - seconds));
    head_start = std::clamp(head_start, 0.0, limits.max_wait);
  }
  return request.arrival - head_start - request.priority * limits.max_wait;
}

// W seconds of work go in W/t batches of t seconds each. The last of them waits W·base/t for the
// fixed costs, and everybody t/2 or so for the own batch: the sum is least at t = sqrt(2·base·W).
double batch_seconds(double waiting, const CostModel& cost, const Limits& limits,
                     const Traffic& traffic) {
  const double random = limits.policy == Policy::kLatency ? randomness(traffic.crowd) : 0;
  if (random == 0) return std::numeric_limits<double>::infinity();
  return std::max(kBatchOverBase * cost.base,
                  std::sqrt(2 * cost.base * kServedPerWaiting * waiting)) /
         random;
}

}  // namespace vlt
