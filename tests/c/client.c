/* A C99 program against vlt.h: what a user of the C interface writes, and what one gets wrong.
 *
 *   client WEIGHTS
 *
 * Runs on the tiny weights file of the tests (vocabulary 10, H = 4, D = 3, at most 6 tokens),
 * prints the embeddings, one line a sequence, and exits with 0. A rule of vlt.h that does not hold
 * is printed with its line, and the exit code is 1. */
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "require.h"
#include "vlt.h"

/* The call must fail with this status, and the explanation must hold these words. */
#define REQUIRE_FAILS(status, words, call)              \
  do {                                                  \
    REQUIRE((call) == (status));                        \
    REQUIRE(strstr(vlt_last_error(), (words)) != NULL); \
  } while (0)

enum { S = 3, T = 6, H = 4, D = 3 };
static const int32_t kIds[T] = {1, 2, 3, 4, 5, 9};
static const int32_t kStarts[S + 1] = {0, 2, 2, 6}; /* the second sequence is empty */

static vlt_packed_batch good_batch(void) {
  vlt_packed_batch batch = {0};
  batch.struct_size = sizeof(batch);
  batch.num_sequences = S;
  batch.num_tokens = T;
  batch.token_ids = kIds;
  batch.sequence_starts = kStarts;
  return batch;
}

static vlt_output output_to(int32_t kind, float* data, uint64_t bytes) {
  vlt_output output = {0};
  output.struct_size = sizeof(output);
  output.kind = kind;
  output.data = data;
  output.bytes = bytes;
  return output;
}

static void check_version(void) {
  REQUIRE(vlt_abi_version() == VLT_ABI_VERSION);
  REQUIRE(vlt_build_info()[0] == '{');
  REQUIRE(vlt_last_error() != NULL);
}

static void check_load_errors(const char* path) {
  vlt_model* const untouched = (vlt_model*)(void*)&kIds;
  vlt_model* model = untouched;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "path", vlt_model_load(NULL, NULL, &model));
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "out_model", vlt_model_load(path, NULL, NULL));
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "bytes", vlt_model_load_memory(NULL, 8, NULL, &model));
  REQUIRE_FAILS(VLT_FILE_ERROR, "/nowhere", vlt_model_load("/nowhere", NULL, &model));
  REQUIRE_FAILS(VLT_FILE_ERROR, "<memory>", vlt_model_load_memory("", 0, NULL, &model));
  REQUIRE(model == untouched);
}

/* A zero field is the default, a field the library does not know must be zero, and a struct may end
 * before the fields that a newer header added. */
static void check_struct_sizes(const char* path) {
  struct {
    vlt_model_options known;
    int32_t later;
  } longer = {{0}, 0};
  vlt_model* model = NULL;
  longer.known.struct_size = sizeof(longer);
  REQUIRE(vlt_model_load(path, &longer.known, &model) == VLT_OK);
  vlt_model_free(model);

  longer.later = 1;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "vlt_model_options",
                vlt_model_load(path, &longer.known, &model));

  vlt_model_options shorter = {0};
  shorter.struct_size = offsetof(vlt_model_options, device_index);
  shorter.device_type = VLT_DEVICE_CPU;
  shorter.device_index = 77; /* past the end: not read */
  REQUIRE(vlt_model_load(path, &shorter, &model) == VLT_OK);
  vlt_model_free(model);

  shorter.struct_size = 0;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "struct_size", vlt_model_load(path, &shorter, &model));
}

static void check_option_errors(const char* path) {
  vlt_model* model = NULL;
  vlt_model_options options = {0};
  options.struct_size = sizeof(options);
  options.device_type = 99;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "99", vlt_model_load(path, &options, &model));
  options.device_type = VLT_DEVICE_CPU;
  options.device_index = 1;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "device_index", vlt_model_load(path, &options, &model));
  options.device_index = 0;
  options.compute_type = VLT_FLOAT16;
  REQUIRE_FAILS(VLT_UNSUPPORTED, "bfloat16", vlt_model_load(path, &options, &model));
}

static void check_model(vlt_model* model) {
  vlt_model_info info;
  memset(&info, 0x55, sizeof(info));
  info.struct_size = offsetof(vlt_model_info, num_heads);
  REQUIRE(vlt_model_get_info(model, &info) == VLT_OK);
  REQUIRE(info.hidden_size == H);
  REQUIRE(info.num_heads == 0x55555555); /* past the size given: not written */
  info.struct_size = sizeof(info);
  REQUIRE(vlt_model_get_info(model, &info) == VLT_OK);
  REQUIRE(info.struct_size == sizeof(info));
  REQUIRE(info.vocab_size == 10 && info.max_length == 6 && info.embedding_size == D);
  REQUIRE(info.weight_bytes > 0 && info.kernels[0] != '\0');
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "info", vlt_model_get_info(model, NULL));
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "model", vlt_model_get_info(NULL, &info));

  REQUIRE(strcmp(vlt_model_metadata(model, "prompt.query"), "query: ") == 0);
  REQUIRE(vlt_model_metadata(model, "nothing") == NULL);
  int32_t num_keys = 0;
  while (vlt_model_metadata_key(model, num_keys) != NULL) ++num_keys;
  REQUIRE(num_keys == 20);
  REQUIRE(vlt_model_metadata_key(model, -1) == NULL);

  const void* tokenizer = NULL;
  uint64_t num_bytes = 0;
  REQUIRE(vlt_model_get_tokenizer(model, &tokenizer, &num_bytes) == VLT_OK);
  REQUIRE(num_bytes == 2 && memcmp(tokenizer, "{}", 2) == 0);
}

static void check_batch_errors(vlt_session* session) {
  float data[S * D];
  const vlt_output output = output_to(VLT_OUTPUT_EMBEDDING, data, sizeof(data));
  const vlt_output small = output_to(VLT_OUTPUT_EMBEDDING, data, sizeof(data) - 1);
  const vlt_output unknown = output_to(7, data, sizeof(data));
  vlt_packed_batch batch = good_batch();
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "session", vlt_run(NULL, &batch, &output, 1));
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "batch", vlt_run(session, NULL, &output, 1));
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "outputs", vlt_run(session, &batch, NULL, 1));
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "35", vlt_run(session, &batch, &small, 1));
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "kind", vlt_run(session, &batch, &unknown, 1));

  const int32_t bad_ids[T] = {1, 2, 3, 10, 5, 9};
  batch.token_ids = bad_ids;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "token id 10", vlt_run(session, &batch, &output, 1));
  batch.token_ids = NULL;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "token_ids", vlt_run(session, &batch, &output, 1));
  batch = good_batch();
  const int32_t bad_starts[S + 1] = {0, 3, 2, 6};
  batch.sequence_starts = bad_starts;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "sequence_starts", vlt_run(session, &batch, &output, 1));
  batch = good_batch();
  batch.num_tokens = 5;
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "num_tokens", vlt_run(session, &batch, &output, 1));
}

static void check_empty_batch(vlt_session* session) {
  const int32_t start = 0;
  vlt_packed_batch batch = {0};
  batch.struct_size = sizeof(batch);
  batch.sequence_starts = &start;
  const vlt_output output = output_to(VLT_OUTPUT_EMBEDDING, NULL, 0);
  REQUIRE(vlt_run(session, &batch, &output, 1) == VLT_OK);
}

/* A client of a later version passes an array of longer structs. */
static void check_output_stride(vlt_session* session) {
  float hidden[T * H];
  float embedding[S * D];
  struct {
    vlt_output known;
    uint64_t later;
  } outputs[2] = {{{0}, 0}, {{0}, 0}};
  outputs[0].known = output_to(VLT_OUTPUT_HIDDEN, hidden, sizeof(hidden));
  outputs[1].known = output_to(VLT_OUTPUT_EMBEDDING, embedding, sizeof(embedding));
  outputs[0].known.struct_size = sizeof(outputs[0]);
  outputs[1].known.struct_size = sizeof(outputs[1]);
  const vlt_packed_batch batch = good_batch();
  hidden[T * H - 1] = embedding[S * D - 1] = -77;
  REQUIRE(vlt_run(session, &batch, &outputs[0].known, 2) == VLT_OK);
  REQUIRE(hidden[T * H - 1] != -77 && embedding[S * D - 1] != -77);
  outputs[1].known.struct_size = sizeof(vlt_output);
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "struct_size",
                vlt_run(session, &batch, &outputs[0].known, 2));
}

/* The caller's rounding mode is the caller's: neither used nor changed. */
static void check_rounding_mode(vlt_session* session) {
  float nearest[S * D];
  float upward[S * D];
  const vlt_packed_batch batch = good_batch();
  vlt_output output = output_to(VLT_OUTPUT_EMBEDDING, nearest, sizeof(nearest));
  REQUIRE(vlt_run(session, &batch, &output, 1) == VLT_OK);
  output.data = upward;
  REQUIRE(fesetround(FE_UPWARD) == 0);
  REQUIRE(vlt_run(session, &batch, &output, 1) == VLT_OK);
  REQUIRE(fegetround() == FE_UPWARD);
  REQUIRE(fesetround(FE_TONEAREST) == 0);
  REQUIRE(memcmp(nearest, upward, sizeof(nearest)) == 0);
}

static void print_embeddings(vlt_session* session) {
  float hidden[T * H];
  float embedding[S * D];
  vlt_output outputs[2];
  outputs[0] = output_to(VLT_OUTPUT_HIDDEN, hidden, sizeof(hidden));
  outputs[1] = output_to(VLT_OUTPUT_EMBEDDING, embedding, sizeof(embedding));
  const vlt_packed_batch batch = good_batch();
  REQUIRE(vlt_run(session, &batch, outputs, 2) == VLT_OK);
  for (int s = 0; s < S; ++s) {
    for (int d = 0; d < D; ++d)
      printf("%.9g%c", (double)embedding[s * D + d], d + 1 < D ? ' ' : '\n');
  }
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s WEIGHTS\n", argv[0]);
    return 2;
  }
  check_version();
  check_load_errors(argv[1]);
  check_struct_sizes(argv[1]);
  check_option_errors(argv[1]);

  vlt_model* model = NULL;
  vlt_session* session = NULL;
  REQUIRE(vlt_model_load(argv[1], NULL, &model) == VLT_OK);
  check_model(model);
  REQUIRE_FAILS(VLT_INVALID_ARGUMENT, "model", vlt_session_create(NULL, NULL, &session));
  REQUIRE(vlt_session_create(model, NULL, &session) == VLT_OK);
  vlt_model_free(model); /* the session keeps it alive */

  check_batch_errors(session);
  check_empty_batch(session);
  check_output_stride(session);
  check_rounding_mode(session);
  print_embeddings(session);
  vlt_session_free(session);
  vlt_session_free(NULL);
  vlt_model_free(NULL);
  return 0;
}
