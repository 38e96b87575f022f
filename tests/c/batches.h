/* Random batches for any model, the same for the same number, and their hidden states. */
#ifndef VLT_TESTS_BATCHES_H_
#define VLT_TESTS_BATCHES_H_

#include <stdint.h>
#include <stdlib.h>

#include "require.h"
#include "vlt.h"

enum { MOST_SEQUENCES = 12 };

typedef struct {
  int32_t starts[MOST_SEQUENCES + 1];
  int32_t* ids;
  float* hidden; /* [T, H] */
  vlt_packed_batch batch;
  vlt_output output;
} test_batch;

static inline uint32_t next_random(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

/* 0 to 12 sequences, some of them empty, one in four as long as the model allows. */
static inline test_batch make_batch(const vlt_model_info* info, uint32_t number) {
  uint32_t state = number * 2654435761u + 1;
  test_batch made = {0};
  const int32_t sequences = (int32_t)(next_random(&state) % (MOST_SEQUENCES + 1));
  for (int32_t s = 0; s < sequences; ++s) {
    const uint32_t draw = next_random(&state);
    const uint32_t most = (uint32_t)info->max_length + 1;
    const int32_t length = draw % 4 == 0 ? info->max_length : (int32_t)(draw / 4 % most);
    made.starts[s + 1] = made.starts[s] + length;
  }
  const int32_t tokens = made.starts[sequences];
  made.ids = malloc(sizeof(int32_t) * (size_t)tokens + 1);
  REQUIRE(made.ids);
  for (int32_t t = 0; t < tokens; ++t)
    made.ids[t] = (int32_t)(next_random(&state) % (uint32_t)info->vocab_size);
  made.output.struct_size = sizeof(made.output);
  made.output.kind = VLT_OUTPUT_HIDDEN;
  made.output.bytes = sizeof(float) * (uint64_t)tokens * (uint64_t)info->hidden_size;
  made.hidden = malloc(made.output.bytes + 1);
  REQUIRE(made.hidden);
  made.batch.struct_size = sizeof(made.batch);
  made.batch.num_sequences = sequences;
  made.batch.num_tokens = tokens;
  return made;
}

static inline vlt_status run_batch(vlt_session* session, test_batch* made) {
  /* Set here: a test_batch may have been copied since it was made. */
  made->batch.token_ids = made->ids;
  made->batch.sequence_starts = made->starts;
  made->output.data = made->hidden;
  return vlt_run(session, &made->batch, &made->output, 1);
}

static inline void free_batch(test_batch* made) {
  free(made->ids);
  free(made->hidden);
}

static inline vlt_session* make_session(vlt_model* model, int32_t num_threads) {
  vlt_session_options options = {0};
  vlt_session* session = NULL;
  options.struct_size = sizeof(options);
  options.num_threads = num_threads;
  REQUIRE(vlt_session_create(model, &options, &session) == VLT_OK);
  return session;
}

static inline vlt_model_info info_of(vlt_model* model) {
  vlt_model_info info = {0};
  info.struct_size = sizeof(info);
  REQUIRE(vlt_model_get_info(model, &info) == VLT_OK);
  return info;
}

#endif /* VLT_TESTS_BATCHES_H_ */
