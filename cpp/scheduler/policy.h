// Who goes next, and how much goes at once: pure functions of requests, cost model and clock.
//
// A packed batch costs about what its tokens cost, and everything in it waits for all of it. So a
// large batch gains little and holds short requests up behind long ones. Two rules follow:
//
//   Order    By arrival less a head start. The head start of a request of s seconds is
//            -ln(1 - exp(-γ s)) / γ, the boost of Yu and Scully ("Strongly Tail-Optimal Scheduling
//            in the Light-Tailed M/G/1", POMACS 8(2), 2024), for which the tail of waiting times is
//            least when arrivals are random. γ is the rate at which that tail falls off; it follows
//            from the traffic. A head start is never above max_wait, so no request is ever overtaken
//            by one that came more than max_wait after it. Where arrivals are not random but follow
//            answers, as those of clients that always ask again, the number of requests at the
//            server stays the same, and so does the sum of their waits. Then the tail is least where
//            all wait alike: as the variation of that number falls, head starts shrink and batches
//            grow, down to the oldest first, as many as the limits allow.
//   Amount   A batch may take long enough that its fixed cost is small beside it, or, if much is
//            waiting, long enough that the fixed costs of working it all off do not add up.
#pragma once

#include <cstdint>

#include "scheduler/cost_model.h"

namespace vlt {

enum class Policy : int { kLatency = 0, kFifo = 1, kOne = 2 };

struct Limits {
  Policy policy = Policy::kLatency;
  int64_t max_tokens = 0;    // of a batch; a request alone may be longer
  int32_t max_requests = 0;  // of a batch
  double max_wait = 0;       // seconds; see above
  double linger = 0;         // seconds that a batch which is not full waits for more
};

struct Request {
  int64_t id = 0;
  int64_t length = 0;    // tokens
  double arrival = 0;    // seconds
  int32_t priority = 0;  // a level is worth max_wait
  double time_left = 0;  // seconds from arrival until it should be done; 0: any
};

// E[X] and E[X²] over the latest values.
struct Moments {
  double memory;  // weight of the latest one
  double mean = 0;
  double mean_square = 0;
  int64_t count = 0;

  void observe(double value);
};

// A request is ranked before it is counted, lest a long one stretch the scale that its own head
// start is measured by.
struct Traffic {
  Moments seconds{1.0 / 128};  // that requests take
  Moments crowd{1.0 / 16};     // requests at the server, whenever a batch begins
};

// The lower one goes first.
double rank(const Request& request, const CostModel& cost, const Limits& limits,
            const Traffic& traffic);

// Seconds that a batch may add to its fixed cost when requests worth `waiting` seconds are there.
double batch_seconds(double waiting, const CostModel& cost, const Limits& limits,
                     const Traffic& traffic);

}  // namespace vlt
