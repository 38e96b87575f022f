// Embeddings of sequences of token ids, one line a sequence.
//
//   embed WEIGHTS ID... [/ ID...]...
//
// A slash parts one sequence from the next: embed weights.bin 101 7592 102 / 101 102
#include <vlt.h>

#include <charconv>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

void check(vlt_status status) {
  if (status != VLT_OK) throw std::runtime_error(vlt_last_error());
}

// A struct of vlt.h with its size set; every other field is zero, the default.
template <typename Struct>
Struct sized() {
  Struct value{};
  value.struct_size = sizeof(Struct);
  return value;
}

struct Free {
  void operator()(vlt_model* model) const { vlt_model_free(model); }
  void operator()(vlt_session* session) const { vlt_session_free(session); }
};

// Sequences laid end to end.
struct Packed {
  std::vector<int32_t> ids;           // [T]
  std::vector<int32_t> starts = {0};  // [S + 1]

  int32_t num_sequences() const { return static_cast<int32_t>(starts.size()) - 1; }
  void end_sequence() { starts.push_back(static_cast<int32_t>(ids.size())); }
};

// A model with a session of its own: one thread at a time.
class Encoder {
 public:
  explicit Encoder(const char* path) {
    vlt_model* model = nullptr;
    check(vlt_model_load(path, nullptr, &model));
    const std::unique_ptr<vlt_model, Free> owner(model);  // the session keeps what it needs
    auto info = sized<vlt_model_info>();
    check(vlt_model_get_info(model, &info));
    embedding_size_ = info.embedding_size;
    vlt_session* session = nullptr;
    check(vlt_session_create(model, nullptr, &session));
    session_.reset(session);
  }

  int32_t embedding_size() const { return embedding_size_; }

  std::vector<float> embed(const Packed& packed) {  // [S, D]
    std::vector<float> vectors(static_cast<size_t>(packed.num_sequences()) *
                               static_cast<size_t>(embedding_size_));
    auto batch = sized<vlt_packed_batch>();
    batch.num_sequences = packed.num_sequences();
    batch.num_tokens = static_cast<int64_t>(packed.ids.size());
    batch.token_ids = packed.ids.data();
    batch.sequence_starts = packed.starts.data();
    auto output = sized<vlt_output>();
    output.kind = VLT_OUTPUT_EMBEDDING;
    output.data = vectors.data();
    output.bytes = vectors.size() * sizeof(float);
    check(vlt_run(session_.get(), &batch, &output, 1));
    return vectors;
  }

 private:
  std::unique_ptr<vlt_session, Free> session_;
  int32_t embedding_size_ = 0;
};

int32_t read_id(std::string_view word) {
  int32_t id = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
  if (error != std::errc() || end != word.data() + word.size())
    throw std::invalid_argument("'" + std::string(word) + "' is not a token id");
  return id;
}

Packed pack(char** words, int num_words) {
  Packed packed;
  for (const std::string_view word : std::vector<std::string_view>(words, words + num_words)) {
    if (word == "/") {
      packed.end_sequence();
    } else {
      packed.ids.push_back(read_id(word));
    }
  }
  packed.end_sequence();
  return packed;
}

void embed(int argc, char** argv) {
  if (argc < 3) throw std::invalid_argument("usage: embed WEIGHTS ID... [/ ID...]...");
  if (vlt_abi_version() != VLT_ABI_VERSION)
    throw std::runtime_error("libvlt.so has another ABI than vlt.h");
  const Packed packed = pack(argv + 2, argc - 2);
  Encoder encoder(argv[1]);
  const std::vector<float> vectors = encoder.embed(packed);
  const float* value = vectors.data();
  for (int32_t sequence = 0; sequence < packed.num_sequences(); ++sequence) {
    // Nine digits name one float32 exactly.
    for (int32_t i = 0; i < encoder.embedding_size(); ++i)
      std::printf(i == 0 ? "%.9g" : " %.9g", static_cast<double>(*value++));
    std::putchar('\n');
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    embed(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed: %s\n", error.what());
    return 1;
  }
  return 0;
}
