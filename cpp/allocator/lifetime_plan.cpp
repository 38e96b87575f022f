#include "allocator/lifetime_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace vlt {
namespace {

uint64_t round_up(uint64_t bytes, uint64_t alignment) {
  return (bytes + alignment - 1) & ~(alignment - 1);
}

bool meet(const UsageRecord& a, const UsageRecord& b) {
  return a.first_op <= b.last_op && b.first_op <= a.last_op;
}

struct Stacking {
  std::vector<uint64_t> offsets;
  uint64_t peak = std::numeric_limits<uint64_t>::max();
};

// Places buffers one after the other in the given sequence, each into the smallest gap that takes
// it between those it meets in time, else above them.
Stacking place_in_sequence(const std::vector<UsageRecord>& records,
                           const std::vector<uint64_t>& sizes,
                           const std::vector<size_t>& sequence) {
  Stacking result;
  result.offsets.assign(records.size(), 0);
  result.peak = 0;
  std::vector<size_t> placed;  // ascending by offset
  for (const size_t current : sequence) {
    const uint64_t size = sizes[current];
    if (size == 0) continue;
    uint64_t best = 0, best_gap = std::numeric_limits<uint64_t>::max(), top = 0;
    for (const size_t other : placed) {
      if (!meet(records[current], records[other])) continue;
      const uint64_t begin = result.offsets[other];
      if (begin > top && begin - top >= size && begin - top < best_gap) {
        best = top;
        best_gap = begin - top;
      }
      top = std::max(top, begin + sizes[other]);
    }
    if (best_gap == std::numeric_limits<uint64_t>::max()) best = top;
    result.offsets[current] = best;
    result.peak = std::max(result.peak, best + size);
    const auto higher = std::find_if(placed.begin(), placed.end(),
                                     [&](size_t other) { return result.offsets[other] > best; });
    placed.insert(higher, current);
  }
  return result;
}

// Sequences worth trying: each by one notion of what is hardest to place, the hardest first.
std::vector<std::vector<size_t>> promising_sequences(const std::vector<UsageRecord>& records,
                                                     const std::vector<uint64_t>& sizes) {
  std::vector<size_t> as_given(records.size());
  std::iota(as_given.begin(), as_given.end(), size_t{0});
  const auto sorted_by = [&](const auto& hardness) {
    std::vector<size_t> sequence = as_given;
    std::stable_sort(sequence.begin(), sequence.end(),
                     [&](size_t a, size_t b) { return hardness(a) > hardness(b); });
    return sequence;
  };
  const auto life = [&](size_t i) {
    return static_cast<double>(records[i].last_op - records[i].first_op + 1);
  };
  const auto bytes = [&](size_t i) { return static_cast<double>(sizes[i]); };
  return {sorted_by(bytes),  // greedy by size (Pisarchyk and Lee, 2020, section 5.2)
          sorted_by([&](size_t i) { return bytes(i) * life(i); }), sorted_by(life),
          sorted_by([&](size_t i) { return -static_cast<double>(records[i].first_op); })};
}

// Moves that a search from the best sequence tries; deterministic, so that plans are.
constexpr int kSearchMoves = 400;

Stacking search(const std::vector<UsageRecord>& records, const std::vector<uint64_t>& sizes,
                uint64_t bound) {
  Stacking best;
  std::vector<size_t> sequence;
  for (std::vector<size_t>& candidate : promising_sequences(records, sizes)) {
    Stacking stacking = place_in_sequence(records, sizes, candidate);
    if (stacking.peak < best.peak) {
      best = std::move(stacking);
      sequence = std::move(candidate);
    }
  }
  uint64_t random = 88172645463325252u;
  const auto next_index = [&] {  // xorshift64 (Marsaglia, 2003)
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return static_cast<size_t>(random % records.size());
  };
  for (int move = 0; move < kSearchMoves && best.peak > bound; ++move) {
    std::vector<size_t> changed = sequence;
    std::swap(changed[next_index()], changed[next_index()]);
    Stacking stacking = place_in_sequence(records, sizes, changed);
    if (stacking.peak <= best.peak) {
      best = std::move(stacking);
      sequence = std::move(changed);
    }
  }
  return best;
}

}  // namespace

uint64_t live_bytes_bound(const std::vector<UsageRecord>& records, uint64_t alignment,
                          const BatchSize& batch) {
  uint64_t bound = 0;
  // the most are alive when one begins
  for (const UsageRecord& starting : records) {
    uint64_t live = 0;
    for (const UsageRecord& other : records)
      if (other.first_op <= starting.first_op && starting.first_op <= other.last_op)
        live += round_up(other.bytes(batch), alignment);
    bound = std::max(bound, live);
  }
  return bound;
}

LifetimePlan::LifetimePlan(std::vector<UsageRecord> records, uint64_t alignment,
                           const BatchSize& typical)
    : records_(std::move(records)), alignment_(alignment) {
  std::vector<uint64_t> sizes;
  for (size_t i = 0; i < records_.size(); ++i) sizes.push_back(size(i, typical));
  Stacking stacking = search(records_, sizes, live_bytes_bound(records_, alignment_, typical));

  for (size_t i = 0; i < records_.size(); ++i)
    if (sizes[i] == 0) stacking.offsets[i] = stacking.peak;
  order_.resize(records_.size());
  std::iota(order_.begin(), order_.end(), size_t{0});
  std::stable_sort(order_.begin(), order_.end(),
                   [&](size_t a, size_t b) { return stacking.offsets[a] < stacking.offsets[b]; });
  for (size_t k = 0; k < order_.size(); ++k) {
    std::vector<size_t> lower;
    for (size_t j = 0; j < k; ++j)
      if (meet(records_[order_[k]], records_[order_[j]])) lower.push_back(order_[j]);
    below_.push_back(std::move(lower));
  }
}

uint64_t LifetimePlan::size(size_t index, const BatchSize& batch) const {
  return round_up(records_[index].bytes(batch), alignment_);
}

uint64_t LifetimePlan::place(const BatchSize& batch, uint64_t* offsets) const {
  uint64_t peak = 0;
  for (size_t k = 0; k < order_.size(); ++k) {
    uint64_t& offset = offsets[order_[k]] = 0;
    for (const size_t lower : below_[k])
      offset = std::max(offset, offsets[lower] + size(lower, batch));
    peak = std::max(peak, offset + size(order_[k], batch));
  }
  return peak;
}

uint64_t LifetimePlan::peak_bytes(const BatchSize& batch) const {
  std::vector<uint64_t> offsets(records_.size());
  return place(batch, offsets.data());
}

uint64_t LifetimePlan::most_tokens(uint64_t bytes, uint64_t num_sequences) const {
  // The peak never falls as T grows, so halving finds the border between fitting and not.
  uint64_t fits = 0, too_many = uint64_t{1} << 31;
  while (too_many - fits > 1) {
    const uint64_t middle = fits + (too_many - fits) / 2;
    (peak_bytes({middle, num_sequences}) <= bytes ? fits : too_many) = middle;
  }
  return fits;
}

}  // namespace vlt
