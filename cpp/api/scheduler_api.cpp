// vlt.h: cost models, plans of padded batches, schedulers.
#include "scheduler/scheduler.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "api/guard.h"
#include "scheduler/cost_model.h"
#include "scheduler/padded_plan.h"
#include "scheduler/policy.h"
#include "vlt.h"

struct vlt_scheduler {
  vlt::Scheduler scheduler;
};

namespace {

using vlt::require;

constexpr int64_t kDefaultMaxTokens = 16384;
constexpr int32_t kDefaultMaxRequests = 512;
constexpr double kDefaultMaxWait = 0.5;
constexpr int32_t kMostPriority = 1000;

void require_within(const std::string& name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return;
  require(false, name + " is " + std::to_string(value) + "; it must be " + std::to_string(low) +
                     " … " + std::to_string(high));
}

void require_seconds(const std::string& name, double value) {
  require(std::isfinite(value) && value >= 0,
          name + " is " + std::to_string(value) + "; it must be finite and not negative");
}

vlt::CostModel read_cost_model(const vlt_cost_model& given) {
  const auto model = vlt::read_struct(&given, "vlt_cost_model");
  require_seconds("vlt_cost_model.base", model.base);
  require_seconds("vlt_cost_model.per_token", model.per_token);
  require_seconds("vlt_cost_model.per_square", model.per_square);
  return {model.base, model.per_token, model.per_square};
}

void require_ascending(const std::string& name, const std::vector<int32_t>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const int32_t before = i > 0 ? values[i - 1] : 0;
    require(values[i] > before, name + "[" + std::to_string(i) + "] is " +
                                    std::to_string(values[i]) + "; it must be above " +
                                    std::to_string(before));
  }
}

vlt::PaddedCosts read_padded_costs(const vlt_padded_costs* given) {
  require(given != nullptr, "costs is NULL");
  const auto known = vlt::read_struct(given, "vlt_padded_costs");
  require_within("vlt_padded_costs.num_lengths", known.num_lengths, 1, INT32_MAX);
  require_within("vlt_padded_costs.num_batch_sizes", known.num_batch_sizes, 1, INT32_MAX);
  require(known.lengths && known.batch_sizes && known.seconds,
          "vlt_padded_costs.lengths, .batch_sizes or .seconds is NULL; set all three");
  const int64_t size = int64_t{known.num_lengths} * known.num_batch_sizes;
  vlt::PaddedCosts costs;
  costs.lengths.assign(known.lengths, known.lengths + known.num_lengths);
  costs.batch_sizes.assign(known.batch_sizes, known.batch_sizes + known.num_batch_sizes);
  costs.seconds.assign(known.seconds, known.seconds + size);
  require_ascending("vlt_padded_costs.lengths", costs.lengths);
  require_ascending("vlt_padded_costs.batch_sizes", costs.batch_sizes);
  for (size_t i = 0; i < costs.seconds.size(); ++i)
    require_seconds("vlt_padded_costs.seconds[" + std::to_string(i) + "]", costs.seconds[i]);
  return costs;
}

vlt::Limits read_limits(const vlt_scheduler_options& options) {
  require_within("vlt_scheduler_options.policy", options.policy, VLT_POLICY_LATENCY,
                 VLT_POLICY_ONE);
  require_within("vlt_scheduler_options.max_tokens", options.max_tokens, 0, INT64_MAX);
  require_within("vlt_scheduler_options.max_requests", options.max_requests, 0, INT32_MAX);
  require_seconds("vlt_scheduler_options.max_wait", options.max_wait);
  require_seconds("vlt_scheduler_options.linger", options.linger);
  vlt::Limits limits;
  limits.policy = static_cast<vlt::Policy>(options.policy);
  limits.max_tokens = options.max_tokens > 0 ? options.max_tokens : kDefaultMaxTokens;
  limits.max_requests = options.max_requests > 0 ? options.max_requests : kDefaultMaxRequests;
  limits.max_wait = options.max_wait > 0 ? options.max_wait : kDefaultMaxWait;
  limits.linger = options.linger;
  return limits;
}

vlt::Request read_request(const vlt_request* given) {
  require(given != nullptr, "request is NULL");
  const auto request = vlt::read_struct(given, "vlt_request");
  require_within("vlt_request.length", request.length, 0, INT32_MAX);
  require_within("vlt_request.priority", request.priority, -kMostPriority, kMostPriority);
  require(std::isfinite(request.arrival),
          "vlt_request.arrival is " + std::to_string(request.arrival) + "; it must be finite");
  require_seconds("vlt_request.time_left", request.time_left);
  return {request.request, request.length, request.arrival, request.priority, request.time_left};
}

}  // namespace

static_assert(VLT_POLICY_LATENCY == static_cast<int>(vlt::Policy::kLatency));
static_assert(VLT_POLICY_FIFO == static_cast<int>(vlt::Policy::kFifo));
static_assert(VLT_POLICY_ONE == static_cast<int>(vlt::Policy::kOne));

vlt_status vlt_cost_model_fit(const vlt_cost_point* points, int32_t num_points,
                              vlt_cost_model* model) {
  return vlt::guarded([&] {
    require(points != nullptr, "points is NULL");
    require_within("num_points", num_points, 1, INT32_MAX);
    std::vector<vlt::CostPoint> known;
    for (int32_t i = 0; i < num_points; ++i) {
      const std::string name = "points[" + std::to_string(i) + "]";
      require_seconds(name + ".num_tokens", points[i].num_tokens);
      require_seconds(name + ".squares", points[i].squares);
      require(std::isfinite(points[i].seconds) && points[i].seconds > 0,
              name + ".seconds is " + std::to_string(points[i].seconds) +
                  "; it must be finite and above 0");
      known.push_back({points[i].num_tokens, points[i].squares, points[i].seconds});
    }
    const vlt::CostModel fitted = vlt::fit_cost_model(known);
    vlt_cost_model result{};
    result.base = fitted.base;
    result.per_token = fitted.per_token;
    result.per_square = fitted.per_square;
    vlt::write_struct(result, model, "vlt_cost_model");
  });
}

vlt_status vlt_padded_seconds(const vlt_padded_costs* costs, int32_t length, int32_t batch_size,
                              double* out_seconds) {
  return vlt::guarded([&] {
    const vlt::PaddedCosts known = read_padded_costs(costs);
    require(out_seconds != nullptr, "out_seconds is NULL; pass where to store the seconds");
    require_within("length", length, 1, known.lengths.back());
    require_within("batch_size", batch_size, 1, known.batch_sizes.back());
    *out_seconds = known.at(length, batch_size);
  });
}

vlt_status vlt_plan_padded(const vlt_padded_costs* costs, const int32_t* lengths,
                           int32_t num_requests, int32_t max_requests, int32_t* out_order,
                           int32_t* out_ends, int32_t* out_num_batches) {
  return vlt::guarded([&] {
    const vlt::PaddedCosts known = read_padded_costs(costs);
    require(out_num_batches != nullptr, "out_num_batches is NULL; pass where to store the number");
    require_within("num_requests", num_requests, 0, INT32_MAX);
    require_within("max_requests", max_requests, 1, known.batch_sizes.back());
    require(num_requests == 0 || (lengths && out_order && out_ends),
            "lengths, out_order or out_ends is NULL; pass arrays of num_requests elements");
    for (int32_t i = 0; i < num_requests; ++i)
      require_within("lengths[" + std::to_string(i) + "]", lengths[i], 1, known.lengths.back());
    const vlt::PaddedPlan plan =
        plan_padded(known, std::vector<int32_t>(lengths, lengths + num_requests), max_requests);
    std::copy(plan.order.begin(), plan.order.end(), out_order);
    std::copy(plan.ends.begin(), plan.ends.end(), out_ends);
    *out_num_batches = static_cast<int32_t>(plan.ends.size());
  });
}

vlt_status vlt_scheduler_create(const vlt_scheduler_options* options,
                                vlt_scheduler** out_scheduler) {
  return vlt::guarded([&] {
    require(options != nullptr, "options is NULL");
    require(out_scheduler != nullptr, "out_scheduler is NULL; pass where to store the scheduler");
    const auto known = vlt::read_struct(options, "vlt_scheduler_options");
    const vlt::Limits limits = read_limits(known);
    require(known.cost || limits.policy != vlt::Policy::kLatency,
            "vlt_scheduler_options.cost is NULL; VLT_POLICY_LATENCY needs a cost model");
    const vlt::CostModel cost = known.cost ? read_cost_model(*known.cost) : vlt::CostModel{};
    *out_scheduler = new vlt_scheduler{vlt::Scheduler(cost, limits)};
  });
}

void vlt_scheduler_free(vlt_scheduler* scheduler) { delete scheduler; }

vlt_status vlt_scheduler_add(vlt_scheduler* scheduler, const vlt_request* request) {
  return vlt::guarded([&] {
    require(scheduler != nullptr, "scheduler is NULL");
    const vlt::Request known = read_request(request);
    if (!scheduler->scheduler.add(known))
      require(false, "request " + std::to_string(known.id) +
                         " is waiting already; give each waiting request a number of its own");
  });
}

vlt_status vlt_scheduler_remove(vlt_scheduler* scheduler, int64_t request, int32_t* out_removed) {
  return vlt::guarded([&] {
    require(scheduler != nullptr, "scheduler is NULL");
    require(out_removed != nullptr, "out_removed is NULL; pass where to store the answer");
    *out_removed = scheduler->scheduler.remove(request) ? 1 : 0;
  });
}

vlt_status vlt_scheduler_next_batch(vlt_scheduler* scheduler, double now, int64_t* out_requests,
                                    int32_t* count) {
  return vlt::guarded([&] {
    require(scheduler != nullptr, "scheduler is NULL");
    require(out_requests != nullptr, "out_requests is NULL; pass where to store the batch");
    require(count != nullptr, "count is NULL; pass the capacity of out_requests");
    require_within("count", *count, 1, INT32_MAX);
    require(std::isfinite(now), "now is " + std::to_string(now) + "; it must be finite");
    const std::vector<int64_t> batch = scheduler->scheduler.next_batch(now, *count);
    std::copy(batch.begin(), batch.end(), out_requests);
    *count = static_cast<int32_t>(batch.size());
  });
}

vlt_status vlt_scheduler_wake_at(const vlt_scheduler* scheduler, double* out_time) {
  return vlt::guarded([&] {
    require(scheduler != nullptr, "scheduler is NULL");
    require(out_time != nullptr, "out_time is NULL; pass where to store the time");
    *out_time = scheduler->scheduler.wake_at();
  });
}

vlt_status vlt_scheduler_get_stats(const vlt_scheduler* scheduler, vlt_scheduler_stats* stats) {
  return vlt::guarded([&] {
    require(scheduler != nullptr, "scheduler is NULL");
    vlt_scheduler_stats result{};
    result.num_waiting = scheduler->scheduler.num_waiting();
    result.waiting_tokens = scheduler->scheduler.waiting_tokens();
    result.waiting_seconds = scheduler->scheduler.waiting_seconds();
    vlt::write_struct(result, stats, "vlt_scheduler_stats");
  });
}
