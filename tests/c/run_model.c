/* Runs a batch on a model, for tests of libraries that Python cannot load, such as emulated ones.
 *
 *   run_model WEIGHTS KIND NUM_THREADS < batch > values
 *
 * The batch is made of int32: S, T, C, the number of values that the output has, then
 * sequence_starts [S + 1], token_ids [T], token_types [T], pooling_starts [S], chosen_tokens [C].
 * KIND is a VLT_OUTPUT_*, and the values are float32. Names the instruction set on standard error. */
#include <stdio.h>
#include <stdlib.h>

#include "vlt.h"

static void fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, vlt_last_error());
  exit(1);
}

static int32_t* read_numbers(int64_t count) {
  int32_t* numbers = malloc((size_t)count * sizeof(*numbers) + 1);
  if (!numbers || fread(numbers, sizeof(*numbers), (size_t)count, stdin) != (size_t)count)
    fail("the batch is too short");
  return numbers;
}

int main(int argc, char** argv) {
  vlt_model* model = NULL;
  vlt_session* session = NULL;
  vlt_model_info info = {0};
  vlt_session_options options = {0};
  if (argc != 4) fail("usage: run_model WEIGHTS KIND NUM_THREADS");
  info.struct_size = sizeof(info);
  options.struct_size = sizeof(options);
  options.num_threads = atoi(argv[3]);
  if (vlt_model_load(argv[1], NULL, &model) != VLT_OK) fail("load");
  if (vlt_model_get_info(model, &info) != VLT_OK) fail("info");
  if (vlt_session_create(model, &options, &session) != VLT_OK) fail("session");

  int32_t* sizes = read_numbers(4);
  vlt_packed_batch batch = {0};
  batch.struct_size = sizeof(batch);
  batch.num_sequences = sizes[0];
  batch.num_tokens = sizes[1];
  batch.num_chosen = sizes[2];
  int32_t* arrays[] = {read_numbers(batch.num_sequences + 1), read_numbers(batch.num_tokens),
                       read_numbers(batch.num_tokens), read_numbers(batch.num_sequences),
                       read_numbers(batch.num_chosen)};
  batch.sequence_starts = arrays[0];
  batch.token_ids = arrays[1];
  batch.token_types = arrays[2];
  batch.pooling_starts = arrays[3];
  batch.chosen_tokens = arrays[4];

  const size_t num_values = (size_t)sizes[3];
  float* values = malloc(num_values * sizeof(*values) + 1);
  if (!values) fail("no memory");
  vlt_output output = {0};
  output.struct_size = sizeof(output);
  output.kind = atoi(argv[2]);
  output.data = values;
  output.bytes = num_values * sizeof(*values);
  if (vlt_run(session, &batch, &output, 1) != VLT_OK) fail("run");
  if (fwrite(values, sizeof(*values), num_values, stdout) != num_values) fail("write");
  fprintf(stderr, "%s\n", info.kernels);

  free(values);
  for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); ++i) free(arrays[i]);
  free(sizes);
  vlt_session_free(session);
  vlt_model_free(model);
  return 0;
}
