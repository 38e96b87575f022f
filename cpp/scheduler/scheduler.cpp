#include "scheduler/scheduler.h"

#include <algorithm>
#include <limits>

namespace vlt {
namespace {

double square(int64_t length) { return static_cast<double>(length) * static_cast<double>(length); }

}  // namespace

bool Scheduler::add(const Request& request) {
  if (is_waiting(request.id)) return false;
  const auto length = static_cast<double>(request.length);
  const uint64_t sequence = next_sequence_;
  const double place = rank(request, cost_, limits_, traffic_);
  // No memory in the middle of it must leave no trace.
  const auto waiting = waiting_.emplace_hint(waiting_.end(), sequence, Waiting{request, place});
  try {
    sequence_of_.emplace(request.id, sequence);
    order_.emplace(place, sequence);
  } catch (...) {
    sequence_of_.erase(request.id);
    waiting_.erase(waiting);
    throw;
  }
  ++next_sequence_;
  traffic_.seconds.observe(cost_.added_seconds(length, square(request.length)));
  tokens_ += request.length;
  squares_ += square(request.length);
  return true;
}

void Scheduler::erase(std::map<uint64_t, Waiting>::iterator waiting) {
  const Request& request = waiting->second.request;
  tokens_ -= request.length;
  squares_ = std::max(squares_ - square(request.length), 0.0);
  sequence_of_.erase(request.id);
  order_.erase({waiting->second.rank, waiting->first});
  waiting_.erase(waiting);
  if (waiting_.empty()) squares_ = 0;  // no rounding is carried on
}

bool Scheduler::remove(int64_t id) {
  const auto found = sequence_of_.find(id);
  if (found == sequence_of_.end()) return false;
  erase(waiting_.find(found->second));
  return true;
}

std::vector<int64_t> Scheduler::next_batch(double now, int32_t most) {
  std::vector<int64_t> batch;
  if (now < wake_at()) return batch;
  const int32_t most_requests =
      limits_.policy == Policy::kOne ? 1 : std::min(limits_.max_requests, most);
  const double most_seconds = batch_seconds(waiting_seconds(), cost_, limits_, traffic_);
  // First: a push that finds no memory must not lose a request.
  batch.reserve(static_cast<size_t>(std::min<int64_t>(most_requests, num_waiting())));
  // Whoever was in the last batch has come again by now, or is about to, if clients always ask.
  traffic_.crowd.observe(static_cast<double>(num_waiting() + last_batch_));
  int64_t tokens = 0;
  double squares = 0;
  while (!order_.empty() && static_cast<int32_t>(batch.size()) < most_requests) {
    const auto next = waiting_.find(order_.begin()->second);
    const Request request = next->second.request;
    tokens += request.length;
    squares += square(request.length);
    const bool fits = tokens <= limits_.max_tokens &&
                      cost_.added_seconds(static_cast<double>(tokens), squares) <= most_seconds;
    if (!fits && !batch.empty()) break;
    batch.push_back(request.id);
    erase(next);
  }
  last_batch_ = static_cast<int64_t>(batch.size());
  return batch;
}

bool Scheduler::is_full() const {
  return limits_.policy == Policy::kOne || tokens_ >= limits_.max_tokens ||
         num_waiting() >= limits_.max_requests ||
         waiting_seconds() >= batch_seconds(waiting_seconds(), cost_, limits_, traffic_);
}

double Scheduler::wake_at() const {
  if (waiting_.empty()) return std::numeric_limits<double>::infinity();
  if (is_full()) return -std::numeric_limits<double>::infinity();
  return waiting_.begin()->second.request.arrival + limits_.linger;
}

}  // namespace vlt
