/* The scheduler's part of vlt.h, as a C99 program uses it and misuses it. Needs no model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "require.h"
#include "vlt.h"

#define REQUIRE_WRONG(words, call)                      \
  do {                                                  \
    REQUIRE((call) == VLT_INVALID_ARGUMENT);            \
    REQUIRE(strstr(vlt_last_error(), (words)) != NULL); \
  } while (0)

static vlt_request request_of(int64_t number, int64_t length, double arrival) {
  vlt_request request = {0};
  request.struct_size = sizeof(request);
  request.request = number;
  request.length = length;
  request.arrival = arrival;
  return request;
}

static vlt_cost_model check_cost_model(void) {
  const vlt_cost_point points[] = {{10, 100, 0.002}, {110, 12100, 0.012}, {20, 200, 0.003}};
  vlt_cost_model model = {0};
  REQUIRE_WRONG("struct_size", vlt_cost_model_fit(points, 3, &model));
  model.struct_size = sizeof(model);
  REQUIRE_WRONG("points is NULL", vlt_cost_model_fit(NULL, 3, &model));
  REQUIRE_WRONG("vlt_cost_model is NULL", vlt_cost_model_fit(points, 3, NULL));
  REQUIRE(vlt_cost_model_fit(points, 3, &model) == VLT_OK);
  REQUIRE(fabs(model.base - 0.001) < 1e-9 && fabs(model.per_token - 0.0001) < 1e-9);
  REQUIRE(fabs(model.per_square) < 1e-9);
  return model;
}

/* One of 100 tokens beside short ones: padding all would cost 4 * 100, the plan 3 * 10 + 100. */
static void check_plan(void) {
  const int32_t lengths[] = {1, 100}, sizes[] = {1, 4};
  const double seconds[] = {1, 4, 100, 400};
  vlt_padded_costs costs = {sizeof(costs), 2, lengths, 2, sizes, seconds};
  const int32_t requests[] = {10, 100, 9, 10};
  int32_t order[4], ends[4], count = -1;
  REQUIRE(vlt_plan_padded(&costs, requests, 4, 4, order, ends, &count) == VLT_OK);
  REQUIRE(order[0] == 2 && order[1] == 0 && order[2] == 3 && order[3] == 1);
  REQUIRE(count >= 2 && ends[count - 1] == 4 && ends[count - 2] == 3);
  REQUIRE(vlt_plan_padded(&costs, NULL, 0, 4, NULL, NULL, &count) == VLT_OK && count == 0);
  REQUIRE_WRONG("max_requests", vlt_plan_padded(&costs, requests, 4, 5, order, ends, &count));
  REQUIRE_WRONG("out_order", vlt_plan_padded(&costs, requests, 4, 4, NULL, ends, &count));
  double cost = 0;
  REQUIRE(vlt_padded_seconds(&costs, 100, 4, &cost) == VLT_OK && cost == 400);
  REQUIRE_WRONG("length is 101", vlt_padded_seconds(&costs, 101, 4, &cost));
  costs.seconds = NULL;
  REQUIRE_WRONG("seconds is NULL", vlt_padded_seconds(&costs, 100, 4, &cost));
}

static void check_options(const vlt_cost_model* cost) {
  vlt_scheduler* scheduler = NULL;
  vlt_scheduler_options options = {0};
  REQUIRE_WRONG("options is NULL", vlt_scheduler_create(NULL, &scheduler));
  REQUIRE_WRONG("struct_size", vlt_scheduler_create(&options, &scheduler));
  options.struct_size = sizeof(options);
  REQUIRE_WRONG("needs a cost model", vlt_scheduler_create(&options, &scheduler));
  options.cost = cost;
  REQUIRE_WRONG("out_scheduler", vlt_scheduler_create(&options, NULL));
  options.policy = 3;
  REQUIRE_WRONG("policy is 3", vlt_scheduler_create(&options, &scheduler));
  options.policy = VLT_POLICY_LATENCY;
  options.max_tokens = -1;
  REQUIRE_WRONG("max_tokens is -1", vlt_scheduler_create(&options, &scheduler));
  options.max_tokens = 0;
  options.linger = NAN;
  REQUIRE_WRONG("linger is", vlt_scheduler_create(&options, &scheduler));
  vlt_cost_model negative = *cost;
  negative.base = -1;
  options.linger = 0;
  options.cost = &negative;
  REQUIRE_WRONG("base is -1", vlt_scheduler_create(&options, &scheduler));
  REQUIRE(scheduler == NULL);
}

static void check_scheduler(const vlt_cost_model* cost) {
  vlt_scheduler_options options = {0};
  options.struct_size = sizeof(options);
  options.cost = cost;
  vlt_scheduler* scheduler = NULL;
  REQUIRE(vlt_scheduler_create(&options, &scheduler) == VLT_OK);

  double wake = 0;
  REQUIRE(vlt_scheduler_wake_at(scheduler, &wake) == VLT_OK && isinf(wake) && wake > 0);
  vlt_request document = request_of(7, 500, 1.0), query = request_of(8, 10, 1.0);
  REQUIRE(vlt_scheduler_add(scheduler, &document) == VLT_OK);
  REQUIRE(vlt_scheduler_add(scheduler, &query) == VLT_OK);
  REQUIRE_WRONG("8 is waiting already", vlt_scheduler_add(scheduler, &query));
  query.struct_size = 0;
  REQUIRE_WRONG("struct_size", vlt_scheduler_add(scheduler, &query));
  REQUIRE_WRONG("request is NULL", vlt_scheduler_add(scheduler, NULL));

  vlt_scheduler_stats stats = {0};
  stats.struct_size = sizeof(stats);
  REQUIRE(vlt_scheduler_get_stats(scheduler, &stats) == VLT_OK);
  REQUIRE(stats.num_waiting == 2 && stats.waiting_tokens == 510);

  int64_t batch[4];
  int32_t count = 0;
  REQUIRE_WRONG("count is 0", vlt_scheduler_next_batch(scheduler, 1.0, batch, &count));
  count = 1; /* no more than there is room for */
  REQUIRE(vlt_scheduler_next_batch(scheduler, 1.0, batch, &count) == VLT_OK);
  REQUIRE(count == 1 && batch[0] == 8);

  int32_t removed = -1;
  REQUIRE(vlt_scheduler_remove(scheduler, 7, &removed) == VLT_OK && removed == 1);
  REQUIRE(vlt_scheduler_remove(scheduler, 7, &removed) == VLT_OK && removed == 0);
  count = 4;
  REQUIRE(vlt_scheduler_next_batch(scheduler, 2.0, batch, &count) == VLT_OK && count == 0);
  REQUIRE_WRONG("scheduler is NULL", vlt_scheduler_next_batch(NULL, 2.0, batch, &count));
  vlt_scheduler_free(scheduler);
  vlt_scheduler_free(NULL);
}

int main(void) {
  const vlt_cost_model cost = check_cost_model();
  check_plan();
  check_options(&cost);
  check_scheduler(&cost);
  return 0;
}
