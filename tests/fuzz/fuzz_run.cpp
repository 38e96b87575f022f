// libFuzzer: any arguments of vlt_session_create, vlt_session_reserve and vlt_run that keep to what
// C can promise: arrays are as long as the numbers beside them say. Each call works or is refused
// with a reason, and a good batch gives the same bits afterwards.
//
// VLT_FUZZ_MODEL is the path of a weights file with every head.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "input_bytes.h"
#include "vlt.h"

namespace {

constexpr int64_t kMostElements = 4096;  // of an array

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "%s (last error: %s)\n", what, vlt_last_error());
  std::abort();
}

vlt_model* load(int32_t compute_type) {
  vlt_model_options options{};
  options.struct_size = sizeof(options);
  options.device_type = VLT_DEVICE_CPU;
  options.compute_type = compute_type;
  vlt_model* model = nullptr;
  if (vlt_model_load(VLT_FUZZ_MODEL, &options, &model) != VLT_OK) die("no model");
  return model;
}

vlt_model* model(bool bfloat16 = false) {
  static vlt_model* const float32 = load(VLT_FLOAT32);
  static vlt_model* const half = load(VLT_BFLOAT16);
  return bfloat16 ? half : float32;
}

const vlt_model_info& info() {
  static const vlt_model_info known = [] {
    vlt_model_info result{};
    result.struct_size = sizeof(result);
    if (vlt_model_get_info(model(), &result) != VLT_OK) die("no info");
    return result;
  }();
  return known;
}

// The struct's size, mostly; otherwise that of one with fewer fields, which never ends in the midst of
// one: half a pointer points anywhere.
uint32_t struct_size(InputBytes& input, size_t whole) {
  const auto draw = input.take<uint8_t>();
  return static_cast<uint32_t>(draw < 224 ? whole : draw % (whole / 8 + 1) * 8);
}

bool is_given(InputBytes& input) { return input.take<uint8_t>() % 4 != 0; }

// What a caller may hand over: owns the arrays that the batch points into.
struct Arguments {
  vlt_packed_batch batch{};
  std::vector<int32_t> ids, starts, types, pooling, chosen;
  std::vector<vlt_output> outputs;
  std::vector<std::unique_ptr<std::vector<char>>> results;
};

std::vector<int32_t> starts_of(InputBytes& input, int32_t sequences) {
  std::vector<int32_t> starts = input.array(int64_t{sequences} + 1, info().max_length);
  // Mostly lengths, so that they ascend as they should.
  if (!starts.empty() && input.take<uint8_t>() % 8 != 0) {
    starts[0] = 0;
    for (size_t i = 1; i < starts.size(); ++i)
      starts[i] = static_cast<int32_t>(static_cast<uint32_t>(starts[i - 1]) +
                                       static_cast<uint32_t>(starts[i]) % 8);
  }
  return starts;
}

void add_output(InputBytes& input, Arguments& made) {
  vlt_output output{};
  output.struct_size = struct_size(input, sizeof(output));
  output.kind = input.around(VLT_OUTPUT_SPARSE);
  output.dtype = input.take<uint8_t>() % 8 == 0 ? input.around(VLT_BFLOAT16) : VLT_DTYPE_AUTO;
  output.memory = input.take<uint8_t>() % 16 == 0 ? input.around(1) : VLT_MEMORY_HOST;
  output.bytes = input.take<uint16_t>() % 8 == 0 ? input.take<uint16_t>() : 1 << 16;
  made.results.push_back(std::make_unique<std::vector<char>>(output.bytes));
  output.data = is_given(input) ? made.results.back()->data() : nullptr;
  made.outputs.push_back(output);
}

Arguments make_arguments(InputBytes& input) {
  Arguments made;
  vlt_packed_batch& batch = made.batch;
  batch.struct_size = struct_size(input, sizeof(batch));
  batch.num_sequences = input.around(12);
  if (batch.num_sequences <= kMostElements) made.starts = starts_of(input, batch.num_sequences);
  // Sizes that no array here can have come with no array.
  batch.sequence_starts = made.starts.empty() ? nullptr : made.starts.data();
  batch.num_tokens =
      is_given(input) && !made.starts.empty() ? made.starts.back() : input.around(40);
  const bool fits = batch.num_tokens <= kMostElements && batch.num_sequences <= kMostElements;
  if (fits) {
    made.ids = input.array(batch.num_tokens, info().vocab_size - 1);
    made.types = input.array(batch.num_tokens, info().num_token_types - 1);
    made.pooling = input.array(batch.num_sequences, 3);
    if (is_given(input)) batch.token_types = made.types.data();
    if (is_given(input)) batch.pooling_starts = made.pooling.data();
    if (input.take<uint8_t>() % 16 != 0) batch.token_ids = made.ids.data();
  }
  batch.num_chosen = input.around(5);
  if (batch.num_chosen <= kMostElements) {
    made.chosen = input.array(batch.num_chosen, 20);
    if (is_given(input)) batch.chosen_tokens = made.chosen.data();
  }
  batch.memory = input.take<uint8_t>() % 16 == 0 ? input.around(2) : VLT_MEMORY_HOST;
  batch.stream = input.take<uint8_t>() % 32 == 0 ? &batch : nullptr;
  const int32_t outputs = input.take<uint8_t>() % 5;
  for (int32_t i = 0; i < outputs; ++i) add_output(input, made);
  return made;
}

// Needs one reason for each failure. A cancel nobody asked for, or a bug, is none.
void check(vlt_status status) {
  if (status == VLT_OK) return;
  if (status != VLT_INVALID_ARGUMENT && status != VLT_UNSUPPORTED && status != VLT_OUT_OF_MEMORY)
    die("a status that no argument explains");
  if (std::strlen(vlt_last_error()) < 8) die("refused without a reason");
}

void run_good_batch(vlt_session* session) {
  static const int32_t ids[5] = {1, 2, 3, 4, 5}, starts[3] = {0, 2, 5};
  static std::vector<float> expected;
  std::vector<float> states(5 * static_cast<size_t>(info().hidden_size));
  vlt_packed_batch batch{};
  batch.struct_size = sizeof(batch);
  batch.num_sequences = 2;
  batch.num_tokens = 5;
  batch.token_ids = ids;
  batch.sequence_starts = starts;
  vlt_output output{};
  output.struct_size = sizeof(output);
  output.kind = VLT_OUTPUT_HIDDEN;
  output.data = states.data();
  output.bytes = states.size() * sizeof(float);
  if (vlt_run(session, &batch, &output, 1) != VLT_OK) die("a good batch does not run");
  if (expected.empty()) expected = states;
  if (std::memcmp(states.data(), expected.data(), output.bytes) != 0) die("other bits");
}

vlt_session* make_session(InputBytes& input) {
  vlt_session_options options{};
  options.struct_size = struct_size(input, sizeof(options));
  options.num_threads = input.around(2);
  if (options.num_threads == 0 || options.num_threads > 3) options.num_threads %= 4;
  options.workspace_limit = is_given(input) ? 0 : input.take<uint32_t>();
  options.profile = input.take<uint8_t>() % 8 == 0 ? input.around(2) : 0;
  options.disable_graphs = input.take<uint8_t>() % 8 == 0 ? input.around(2) : 0;
  vlt_session* session = nullptr;
  check(vlt_session_create(model(input.take<uint8_t>() % 2 == 1), &options, &session));
  return session;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  InputBytes input(data, size);
  vlt_session* session = make_session(input);
  if (!session) return 0;
  uint64_t bytes = 0;
  const auto tokens = input.take<int64_t>();
  const int32_t sequences = input.around(40), longest = input.around(40);
  check(vlt_session_workspace_bytes(session, tokens, sequences, longest, &bytes));
  if (bytes < uint64_t{1} << 26) check(vlt_session_reserve(session, tokens, sequences, longest));
  for (int i = 0; i < 2; ++i) {
    const Arguments made = make_arguments(input);
    check(vlt_run(session, &made.batch, made.outputs.data(),
                  static_cast<int32_t>(made.outputs.size())));
  }
  // A limit may be below what a good batch needs.
  vlt_session* fresh = nullptr;
  vlt_session_options plain{};
  plain.struct_size = sizeof(plain);
  plain.num_threads = 1;
  if (vlt_session_create(model(), &plain, &fresh) != VLT_OK) die("no second session");
  run_good_batch(fresh);
  vlt_session_free(fresh);
  vlt_session_free(session);
  return 0;
}
