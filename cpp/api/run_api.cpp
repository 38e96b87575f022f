// vlt.h: running.
#include <algorithm>
#include <cstring>
#include <string>

#include "api/guard.h"
#include "api/handles.h"
#include "base/log.h"
#include "encoder/outputs.h"
#include "vlt.h"

namespace {

using vlt::Error;
using vlt::LogLevel;
using vlt::require;
using vlt::Status;

void log_run(const vlt::SessionStats& before, const vlt::SessionStats& after) {
  if (after.memory.held_bytes != before.memory.held_bytes)
    vlt::log_what(LogLevel::kDebug, [&] {
      return "workspace of " + std::to_string(before.memory.held_bytes) + " bytes is now " +
             std::to_string(after.memory.held_bytes);
    });
  if (after.parts > before.parts + 1)
    vlt::log_what(LogLevel::kDebug, [&] {
      return "batch run in " + std::to_string(after.parts - before.parts) + " parts";
    });
}

void check_memory(const std::string& name, int32_t memory, const vlt::Model& model) {
  require(memory == VLT_MEMORY_HOST || memory == VLT_MEMORY_DEVICE,
          name + ".memory is " + std::to_string(memory) + "; it must be a VLT_MEMORY_*");
  require(memory == VLT_MEMORY_HOST || model.backend().as_device(),
          name + ".memory is VLT_MEMORY_DEVICE, but the model is on the CPU");
}

// The output of a VLT_OUTPUT_*; their order is that of the enum, from 1 on.
vlt::OutputKind kind_of(int32_t kind, const std::string& name) {
  static_assert(VLT_OUTPUT_HIDDEN == 1 + static_cast<int>(vlt::OutputKind::kHidden));
  static_assert(VLT_OUTPUT_EMBEDDING == 1 + static_cast<int>(vlt::OutputKind::kEmbedding));
  static_assert(VLT_OUTPUT_LOGITS == 1 + static_cast<int>(vlt::OutputKind::kLogits));
  static_assert(VLT_OUTPUT_TOKEN_LOGITS == 1 + static_cast<int>(vlt::OutputKind::kTokenLogits));
  static_assert(VLT_OUTPUT_VOCABULARY == 1 + static_cast<int>(vlt::OutputKind::kVocabulary));
  static_assert(VLT_OUTPUT_SPARSE == 1 + static_cast<int>(vlt::OutputKind::kSparse));
  require(kind >= VLT_OUTPUT_HIDDEN && kind <= VLT_OUTPUT_SPARSE,
          name + ".kind is " + std::to_string(kind) + "; it must be a VLT_OUTPUT_*");
  return static_cast<vlt::OutputKind>(kind - 1);
}

void check_head(vlt::OutputKind kind, const std::string& name, const vlt::Model& model,
                const vlt_packed_batch& batch) {
  const vlt::Architecture& architecture = model.architecture();
  const std::optional<vlt::HeadKind> head = vlt::head_of(kind);
  if (!head) return;
  const std::string key(vlt::head_key(*head));
  if (architecture.head(*head).steps.empty())
    throw Error(Status::kUnsupported, name +
                                          " asks for what a head makes that the weights file "
                                          "does not have (metadata key " +
                                          key + ")");
  if (kind == vlt::OutputKind::kSparse && !architecture.makes_sparse)
    throw Error(Status::kUnsupported, name +
                                          " asks for sparse embeddings, but the weights file's "
                                          "vocabulary head makes none (metadata key sparse)");
  if (*head == vlt::HeadKind::kVocabulary && batch.memory == VLT_MEMORY_DEVICE)
    throw Error(Status::kUnsupported, name +
                                          " asks for what the vocabulary head makes, for which "
                                          "the batch has to be in host memory");
}

// Adds one output to what the session writes.
void add_output(const vlt_output& output, int32_t index, const vlt::Model& model,
                const vlt_packed_batch& batch, vlt::Outputs& outputs) {
  const std::string name = "outputs[" + std::to_string(index) + "]";
  const vlt::OutputKind kind = kind_of(output.kind, name);
  const int32_t type = output.dtype == VLT_DTYPE_AUTO ? VLT_FLOAT32 : output.dtype;
  require(
      type == VLT_FLOAT32 || (kind == vlt::OutputKind::kHidden &&
                              type == vlt::type_of(model.backend().activation_type())),
      name + ".dtype is " + std::to_string(output.dtype) +
          "; it must be VLT_DTYPE_AUTO or VLT_FLOAT32, or for hidden states on a GPU the model's "
          "compute type");
  check_memory(name, output.memory, model);
  check_head(kind, name, model, batch);
  const vlt::RowCounts counts{batch.num_tokens, batch.num_sequences, batch.num_chosen};
  const int64_t rows = counts.of(vlt::rows_of(kind));
  const int64_t cols = vlt::columns_of(kind, model.architecture());
  const uint64_t needed = static_cast<uint64_t>(std::max<int64_t>(rows, 0)) *
                          static_cast<uint64_t>(cols) * vlt::element_bytes(vlt::dtype_of(type));
  require(output.bytes >= needed, name + ".bytes is " + std::to_string(output.bytes) +
                                      "; this batch needs " + std::to_string(needed));
  require(output.data != nullptr || needed == 0, name + ".data is NULL");
  require(!outputs.wants(kind), name + ".kind is " + std::to_string(output.kind) +
                                    ", which an earlier output already asks for");
  outputs[kind] = {output.data, vlt::dtype_of(type), output.memory == VLT_MEMORY_DEVICE};
}

}  // namespace

vlt_status vlt_run(vlt_session* session, const vlt_packed_batch* batch, const vlt_output* outputs,
                   int32_t num_outputs) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    require(batch != nullptr, "batch is NULL");
    require(num_outputs >= 0 && (outputs != nullptr || num_outputs == 0),
            "outputs is NULL or num_outputs is negative");
    const vlt_packed_batch b = vlt::read_struct(batch, "vlt_packed_batch");
    vlt::Outputs wanted;
    for (int32_t i = 0; i < num_outputs; ++i) {
      // The caller's array may be of longer or shorter structs than this library's.
      const auto* output = reinterpret_cast<const vlt_output*>(
          reinterpret_cast<const unsigned char*>(outputs) + size_t{outputs->struct_size} * i);
      // Before anything else of it is read: with other sizes it is not where it was looked for.
      uint32_t size = 0;
      std::memcpy(&size, output, sizeof(size));
      require(size == outputs->struct_size, "outputs[" + std::to_string(i) + "].struct_size is " +
                                                std::to_string(size) + ", but outputs[0] has " +
                                                std::to_string(outputs->struct_size) +
                                                "; they must be equal");
      const vlt_output known = vlt::read_struct(output, "vlt_output");
      add_output(known, i, session->session->model(), b, wanted);
    }
    check_memory("batch", b.memory, session->session->model());
    require(!b.stream || session->session->model().backend().as_device(),
            "batch.stream is set, but the model is on the CPU");
    const vlt::PackedBatch packed{b.num_tokens,
                                  b.num_sequences,
                                  b.token_ids,
                                  b.sequence_starts,
                                  b.token_types,
                                  b.pooling_starts,
                                  b.memory == VLT_MEMORY_DEVICE,
                                  b.stream,
                                  b.num_chosen,
                                  b.chosen_tokens};
    const vlt::SessionStats before = session->session->stats();
    session->session->run(packed, wanted);
    log_run(before, session->session->stats());
  });
}

vlt_status vlt_session_synchronize(vlt_session* session) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    session->session->synchronize();
  });
}
