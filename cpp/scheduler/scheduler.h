// The requests that wait, and the batches made of them by the rules of policy.h. No clock, no
// thread, no lock: the caller says what time it is.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/policy.h"

namespace vlt {

class Scheduler {
 public:
  Scheduler(const CostModel& cost, const Limits& limits) : cost_(cost), limits_(limits) {}

  // False if a request of this id is waiting already. O(log n), as is removing and taking one.
  bool add(const Request& request);
  // False if it is not waiting.
  bool remove(int64_t id);
  bool is_waiting(int64_t id) const { return sequence_of_.count(id) > 0; }

  // Takes the batch to run now, at most `most` requests; empty if none is to start yet.
  std::vector<int64_t> next_batch(double now, int32_t most);

  // From when on next_batch has one; infinite if nothing waits.
  double wake_at() const;

  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t waiting_tokens() const { return tokens_; }
  double waiting_seconds() const {
    return cost_.added_seconds(static_cast<double>(tokens_), squares_);
  }

 private:
  struct Waiting {
    Request request;
    double rank;
  };

  void erase(std::map<uint64_t, Waiting>::iterator waiting);
  bool is_full() const;

  CostModel cost_;
  Limits limits_;
  Traffic traffic_;
  int64_t last_batch_ = 0;  // requests
  uint64_t next_sequence_ = 0;
  std::map<uint64_t, Waiting> waiting_;  // in the order in which they were added
  std::unordered_map<int64_t, uint64_t> sequence_of_;
  std::set<std::pair<double, uint64_t>> order_;  // (rank, sequence): of equal ranks the first added
  int64_t tokens_ = 0;
  double squares_ = 0;
};

}  // namespace vlt
