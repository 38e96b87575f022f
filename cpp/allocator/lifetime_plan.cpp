#include "allocator/lifetime_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace vlt {
namespace {

struct Interval {
  int first_op, last_op;
  uint64_t size;
};

bool meet(const Interval& a, const Interval& b) {
  return a.first_op <= b.last_op && b.first_op <= a.last_op;
}

// Greedy by size (Pisarchyk and Lee, 2020, section 5.2): the largest first, each into the smallest
// gap between the buffers it meets in time, else above them.
std::vector<uint64_t> place(const std::vector<Interval>& intervals) {
  std::vector<size_t> order(intervals.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals[a].size > intervals[b].size; });

  std::vector<uint64_t> offsets(intervals.size(), 0);
  std::vector<size_t> placed;  // ascending by offset
  for (const size_t current : order) {
    const uint64_t size = intervals[current].size;
    uint64_t best = 0, best_gap = std::numeric_limits<uint64_t>::max(), top = 0;
    bool found = false;
    for (const size_t other : placed) {
      if (!meet(intervals[current], intervals[other])) continue;
      if (offsets[other] > top) {
        const uint64_t gap = offsets[other] - top;
        if (gap >= size && gap < best_gap) {
          best = top;
          best_gap = gap;
          found = true;
        }
      }
      top = std::max(top, offsets[other] + intervals[other].size);
    }
    offsets[current] = found ? best : top;
    const auto position = std::find_if(placed.begin(), placed.end(), [&](size_t other) {
      return offsets[other] > offsets[current];
    });
    placed.insert(position, current);
  }
  return offsets;
}

}  // namespace

LifetimePlan::LifetimePlan(const std::vector<UsageRecord>& records, uint64_t alignment)
    : placements_(records.size()) {
  for (const bool per_sequence : {false, true}) {
    std::vector<Interval> intervals;
    std::vector<size_t> indices;
    for (size_t i = 0; i < records.size(); ++i) {
      const UsageRecord& r = records[i];
      const uint64_t size = per_sequence ? r.bytes_per_sequence : r.bytes_per_token;
      if (size == 0) continue;
      const uint64_t aligned = (size + alignment - 1) / alignment * alignment;
      intervals.push_back({r.first_op, r.last_op, aligned});
      indices.push_back(i);
    }
    const std::vector<uint64_t> offsets = place(intervals);
    uint64_t& peak = per_sequence ? peak_per_sequence_ : peak_per_token_;
    for (size_t k = 0; k < offsets.size(); ++k) {
      placements_[indices[k]] = {per_sequence, offsets[k]};
      peak = std::max(peak, offsets[k] + intervals[k].size);
    }
  }
}

uint64_t LifetimePlan::offset(size_t index, uint64_t num_tokens, uint64_t num_sequences) const {
  const Placement& p = placements_[index];
  return p.per_sequence ? peak_per_token_ * num_tokens + p.unit_offset * num_sequences
                        : p.unit_offset * num_tokens;
}

uint64_t LifetimePlan::most_tokens(uint64_t bytes, uint64_t num_sequences) const {
  const uint64_t sequences = peak_per_sequence_ * num_sequences;
  if (bytes < sequences || peak_per_token_ == 0) return 0;
  return (bytes - sequences) / peak_per_token_;
}

}  // namespace vlt
