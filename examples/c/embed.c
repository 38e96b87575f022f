/* Embeddings of sequences of token ids, one line a sequence.
 *
 *   embed WEIGHTS ID... [/ ID...]...
 *
 * A slash parts one sequence from the next: embed weights.bin 101 7592 102 / 101 102 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vlt.h>

static int fail(const char* reason) {
  fprintf(stderr, "embed: %s\n", reason);
  return 1;
}

static int read_id(const char* word, int32_t* out_id) {
  char* end = NULL;
  errno = 0;
  const long value = strtol(word, &end, 10);
  if (end == word || *end != '\0' || errno != 0 || value < INT32_MIN || value > INT32_MAX) {
    fprintf(stderr, "embed: '%s' is not a token id\n", word);
    return 1;
  }
  *out_id = (int32_t)value;
  return 0;
}

/* Lays the sequences end to end; both arrays have room for num_words + 2 numbers. */
static int pack(char** words, int num_words, int32_t* ids, int32_t* starts,
                vlt_packed_batch* batch) {
  int32_t num_tokens = 0;
  int32_t num_sequences = 0;
  starts[0] = 0;
  for (int i = 0; i < num_words; ++i) {
    if (strcmp(words[i], "/") == 0) {
      starts[++num_sequences] = num_tokens;
    } else if (read_id(words[i], &ids[num_tokens++]) != 0) {
      return 1;
    }
  }
  starts[++num_sequences] = num_tokens;
  batch->struct_size = sizeof(*batch);
  batch->num_sequences = num_sequences;
  batch->num_tokens = num_tokens;
  batch->token_ids = ids;
  batch->sequence_starts = starts;
  return 0;
}

/* Nine digits name one float32 exactly. */
static void print_rows(const float* values, int num_rows, int row_size) {
  for (int row = 0; row < num_rows; ++row) {
    for (int i = 0; i < row_size; ++i) printf(i == 0 ? "%.9g" : " %.9g", (double)*values++);
    putchar('\n');
  }
}

/* A field that is zero keeps its default, and so does one that a later vlt.h adds. */
static int embed(vlt_model* model, const vlt_packed_batch* batch) {
  vlt_model_info info = {0};
  info.struct_size = sizeof(info);
  vlt_session* session = NULL;
  if (vlt_model_get_info(model, &info) != VLT_OK ||
      vlt_session_create(model, NULL, &session) != VLT_OK) {
    return fail(vlt_last_error());
  }
  const size_t num_values = (size_t)batch->num_sequences * (size_t)info.embedding_size;
  float* vectors = malloc(num_values * sizeof(float)); /* vlt_run explains a NULL */
  vlt_output output = {0};
  output.struct_size = sizeof(output);
  output.kind = VLT_OUTPUT_EMBEDDING;
  output.data = vectors;
  output.bytes = num_values * sizeof(float);
  const vlt_status status = vlt_run(session, batch, &output, 1);
  if (status == VLT_OK) print_rows(vectors, batch->num_sequences, info.embedding_size);
  free(vectors);
  vlt_session_free(session);
  return status == VLT_OK ? 0 : fail(vlt_last_error());
}

static int load_and_embed(const char* path, const vlt_packed_batch* batch) {
  vlt_model* model = NULL;
  if (vlt_model_load(path, NULL, &model) != VLT_OK) return fail(vlt_last_error());
  const int result = embed(model, batch);
  vlt_model_free(model);
  return result;
}

int main(int argc, char** argv) {
  if (argc < 3) return fail("usage: embed WEIGHTS ID... [/ ID...]...");
  if (vlt_abi_version() != VLT_ABI_VERSION) return fail("libvlt.so has another ABI than vlt.h");
  int32_t* numbers = malloc(2 * (size_t)argc * sizeof(int32_t));
  if (numbers == NULL) return fail("no memory");
  vlt_packed_batch batch = {0};
  int result = pack(argv + 2, argc - 2, numbers, numbers + argc, &batch);
  if (result == 0) result = load_and_embed(argv[1], &batch);
  free(numbers);
  return result;
}
