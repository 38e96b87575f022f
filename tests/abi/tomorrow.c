/* A client of tomorrow's vlt.h, in which each struct has one field more, on today's library.
 *
 *   tomorrow WEIGHTS */
#include <string.h>

#include "../c/require.h"

#define REQUIRE_UNKNOWN(name, call)                                  \
  do {                                                               \
    REQUIRE((call) == VLT_INVALID_ARGUMENT);                         \
    REQUIRE(strstr(vlt_last_error(), name " sets a field") != NULL); \
    REQUIRE(strstr(vlt_last_error(), "update vlt") != NULL);         \
  } while (0)

/* The structs of the scheduler: those passed in, and those filled in. */
static void check_scheduler(void) {
  const vlt_cost_point point = {10, 100, 0.5};
  vlt_cost_model cost;
  memset(&cost, 0x55, sizeof(cost));
  cost.struct_size = sizeof(cost);
  REQUIRE(vlt_cost_model_fit(&point, 1, &cost) == VLT_OK);
  REQUIRE(cost.of_tomorrow == 0);

  const int32_t one = 1;
  double seconds = 1;
  vlt_padded_costs costs = {0};
  costs.struct_size = sizeof(costs);
  costs.num_lengths = costs.num_batch_sizes = 1;
  costs.lengths = costs.batch_sizes = &one;
  costs.seconds = &seconds;
  costs.of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_padded_costs", vlt_padded_seconds(&costs, 1, 1, &seconds));
  costs.of_tomorrow = 0;
  REQUIRE(vlt_padded_seconds(&costs, 1, 1, &seconds) == VLT_OK);

  vlt_scheduler* scheduler = NULL;
  vlt_scheduler_options options = {0};
  options.struct_size = sizeof(options);
  options.cost = &cost;
  options.of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_scheduler_options", vlt_scheduler_create(&options, &scheduler));
  options.of_tomorrow = 0;
  cost.of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_cost_model", vlt_scheduler_create(&options, &scheduler));
  cost.of_tomorrow = 0;
  REQUIRE(vlt_scheduler_create(&options, &scheduler) == VLT_OK);

  vlt_request request = {0};
  request.struct_size = sizeof(request);
  request.of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_request", vlt_scheduler_add(scheduler, &request));
  request.of_tomorrow = 0;
  REQUIRE(vlt_scheduler_add(scheduler, &request) == VLT_OK);

  vlt_scheduler_stats stats;
  memset(&stats, 0x55, sizeof(stats));
  stats.struct_size = sizeof(stats);
  REQUIRE(vlt_scheduler_get_stats(scheduler, &stats) == VLT_OK);
  REQUIRE(stats.num_waiting == 1 && stats.of_tomorrow == 0);
  vlt_scheduler_free(scheduler);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  check_scheduler();
  /* New fields are left alone: as today. One that is set is refused, by the struct's name. */
  vlt_model* model = NULL;
  vlt_model_options options = {0};
  options.struct_size = sizeof(options);
  options.of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_model_options", vlt_model_load(argv[1], &options, &model));
  options.of_tomorrow = 0;
  REQUIRE(vlt_model_load(argv[1], &options, &model) == VLT_OK);

  /* What the library does not know it fills with zeros. */
  vlt_model_info info;
  memset(&info, 0x55, sizeof(info));
  info.struct_size = sizeof(info);
  REQUIRE(vlt_model_get_info(model, &info) == VLT_OK);
  REQUIRE(info.hidden_size > 0 && info.of_tomorrow == 0);

  vlt_session* session = NULL;
  vlt_session_options session_options = {0};
  session_options.struct_size = sizeof(session_options);
  session_options.of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_session_options", vlt_session_create(model, &session_options, &session));
  session_options.of_tomorrow = 0;
  REQUIRE(vlt_session_create(model, &session_options, &session) == VLT_OK);

  /* Two outputs: the array's elements are as far apart as tomorrow's struct is long. */
  const int32_t ids[1] = {1}, starts[2] = {0, 1};
  float hidden[1024], embedding[1024];
  vlt_packed_batch batch = {0};
  batch.struct_size = sizeof(batch);
  batch.num_sequences = 1;
  batch.num_tokens = 1;
  batch.token_ids = ids;
  batch.sequence_starts = starts;
  vlt_output outputs[2] = {{0}, {0}};
  outputs[0].struct_size = outputs[1].struct_size = sizeof(outputs[0]);
  outputs[0].kind = VLT_OUTPUT_HIDDEN;
  outputs[0].data = hidden;
  outputs[0].bytes = sizeof(hidden);
  outputs[1].kind = VLT_OUTPUT_EMBEDDING;
  outputs[1].data = embedding;
  outputs[1].bytes = sizeof(embedding);
  REQUIRE(vlt_run(session, &batch, outputs, 2) == VLT_OK);
  outputs[1].of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_output", vlt_run(session, &batch, outputs, 2));
  outputs[1].of_tomorrow = 0;
  batch.of_tomorrow = 1;
  REQUIRE_UNKNOWN("vlt_packed_batch", vlt_run(session, &batch, outputs, 2));

  vlt_session_free(session);
  vlt_model_free(model);
  return 0;
}
