// libFuzzer: any bytes as a weights file. They are refused with a reason, or they make a model that
// runs.
//
// A file is length, header, data. Three first bytes of the input say how it is put together:
// "raw" takes what follows as the file; anything else takes it as header, NUL, data, and makes the
// length and the padding right, which a fuzzer would hardly ever hit.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "vlt.h"

namespace {

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "%s (last error: %s)\n", what, vlt_last_error());
  std::abort();
}

std::string put_together(const uint8_t* data, size_t size) {
  std::string input(reinterpret_cast<const char*>(data), size);
  if (input.rfind("raw", 0) == 0) return input.substr(3);
  const size_t end = input.find('\0');
  std::string header = input.substr(0, end);
  header.append((64 - (8 + header.size()) % 64) % 64, ' ');
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof(length));
  file += header;
  if (end != std::string::npos) file += input.substr(end + 1);
  return file;
}

void run_model(vlt_model* model) {
  vlt_model_info info{};
  info.struct_size = sizeof(info);
  if (vlt_model_get_info(model, &info) != VLT_OK) die("no info of a model");
  for (int32_t i = 0; const char* key = vlt_model_metadata_key(model, i); ++i)
    if (!vlt_model_metadata(model, key)) die("a key without a value");
  vlt_session_options options{};
  options.struct_size = sizeof(options);
  options.num_threads = 1;
  vlt_session* session = nullptr;
  if (vlt_session_create(model, &options, &session) != VLT_OK) die("no session of a model");

  const int32_t length = info.max_length < 3 ? info.max_length : 3;
  const std::vector<int32_t> ids(static_cast<size_t>(length), 0), starts{0, length};
  vlt_packed_batch batch{};
  batch.struct_size = sizeof(batch);
  batch.num_sequences = 1;
  batch.num_tokens = length;
  batch.token_ids = ids.data();
  batch.sequence_starts = starts.data();
  std::vector<float> states(ids.size() * static_cast<size_t>(info.hidden_size));
  vlt_output output{};
  output.struct_size = sizeof(output);
  output.kind = VLT_OUTPUT_HIDDEN;
  output.data = states.data();
  output.bytes = states.size() * sizeof(float);
  if (vlt_run(session, &batch, &output, 1) != VLT_OK) die("a model that does not run");
  vlt_session_free(session);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = put_together(data, size);
  vlt_model_options options{};
  options.struct_size = sizeof(options);
  options.device_type = VLT_DEVICE_CPU;
  vlt_model* model = nullptr;
  const vlt_status status = vlt_model_load_memory(file.data(), file.size(), &options, &model);
  if (status == VLT_OK) {
    run_model(model);
    vlt_model_free(model);
    return 0;
  }
  if (status != VLT_FILE_ERROR) die("refused, but not as a file");
  static const char kBegin[] = "weights file <memory>: ";
  if (std::strncmp(vlt_last_error(), kBegin, sizeof(kBegin) - 1) != 0 ||
      std::strlen(vlt_last_error()) < sizeof(kBegin) + 8)
    die("refused without a reason");
  return 0;
}
